"""Quantizers, one small class each, on shared pieces."""

from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.quantizers.bernoulli import BernoulliConfig, BernoulliQuantizer
from visiontok.quantizers.binary import BinaryQuantizer, BinaryQuantizerConfig, EntropyConfig
from visiontok.quantizers.bits import BitOrder, bits_to_ids, ids_to_bits
from visiontok.quantizers.codebook_updates import ClusteringConfig, EmaConfig, KMeansConfig, RevivalConfig
from visiontok.quantizers.dimension_wise import DimensionWiseConfig, DimensionWiseQuantizer
from visiontok.quantizers.entropy_terms import LogFloor
from visiontok.quantizers.finite_scalar import FiniteScalarConfig, FiniteScalarQuantizer
from visiontok.quantizers.gaussian import GaussianBottleneck, GaussianConfig
from visiontok.quantizers.index_backprop import IndexBackpropConfig, IndexBackpropQuantizer
from visiontok.quantizers.levels import LevelDropoutConfig, LevelledQuantizer
from visiontok.quantizers.multi_scale import MultiScaleQuantizer, MultiScaleQuantizerConfig
from visiontok.quantizers.nearest import nearest_codes, nearest_k_codes
from visiontok.quantizers.perturbation import AnnealingConfig, LatentPerturbation, PerturbationConfig
from visiontok.quantizers.phi import PhiConfig
from visiontok.quantizers.pointwise import PointwiseConfig
from visiontok.quantizers.position_usage import DiversityConfig
from visiontok.quantizers.positional_vector import PositionalVectorConfig, PositionalVectorQuantizer
from visiontok.quantizers.product import ProductQuantizer, ProductQuantizerConfig
from visiontok.quantizers.residual import ResidualQuantizer, ResidualQuantizerConfig
from visiontok.quantizers.rotation import rotate
from visiontok.quantizers.sim_vq import SimVq, SimVqConfig
from visiontok.quantizers.straight_through import straight_through
from visiontok.quantizers.vector import VectorQuantizer, VectorQuantizerConfig

__all__ = [
    "AnnealingConfig",
    "BernoulliConfig",
    "BernoulliQuantizer",
    "BinaryQuantizer",
    "BinaryQuantizerConfig",
    "BitOrder",
    "ClusteringConfig",
    "DimensionWiseConfig",
    "DimensionWiseQuantizer",
    "DiversityConfig",
    "EmaConfig",
    "EntropyConfig",
    "FiniteScalarConfig",
    "FiniteScalarQuantizer",
    "GaussianBottleneck",
    "GaussianConfig",
    "IndexBackpropConfig",
    "IndexBackpropQuantizer",
    "KMeansConfig",
    "LatentPerturbation",
    "LevelDropoutConfig",
    "LevelledQuantizer",
    "LogFloor",
    "MultiScaleQuantizer",
    "MultiScaleQuantizerConfig",
    "PerturbationConfig",
    "PhiConfig",
    "PointwiseConfig",
    "PositionalVectorConfig",
    "PositionalVectorQuantizer",
    "ProductQuantizer",
    "ProductQuantizerConfig",
    "Quantized",
    "Quantizer",
    "ResidualQuantizer",
    "ResidualQuantizerConfig",
    "RevivalConfig",
    "SimVq",
    "SimVqConfig",
    "VectorQuantizer",
    "VectorQuantizerConfig",
    "bits_to_ids",
    "ids_to_bits",
    "nearest_codes",
    "nearest_k_codes",
    "rotate",
    "straight_through",
]
