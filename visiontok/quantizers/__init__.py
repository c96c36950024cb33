"""Quantizers, one small class each, on shared pieces."""

from visiontok.quantizers.base import (
    Bottleneck,
    CodebookQuantizer,
    ContinuousBottleneck,
    NeighborQuantizer,
    PointwiseQuantizer,
    Quantized,
    Quantizer,
    configured_by,
    expected_code,
)
from visiontok.quantizers.bernoulli import BernoulliQuantizer, BernoulliQuantizerConfig
from visiontok.quantizers.binary import BinaryEntropyConfig, BinaryQuantizer, BinaryQuantizerConfig
from visiontok.quantizers.bits import BitOrder, bits_to_indices, indices_to_bits
from visiontok.quantizers.codebook_updates import ClusteringConfig, DeadCodeResetConfig, EmaConfig, KMeansConfig
from visiontok.quantizers.continuous import GaussianBottleneck, GaussianBottleneckConfig, IdentityBottleneck, IdentityBottleneckConfig
from visiontok.quantizers.dimension_wise import DimensionWiseQuantizer, DimensionWiseQuantizerConfig
from visiontok.quantizers.entropy_terms import LogFloor
from visiontok.quantizers.factorized import (
    FactorizedResidualQuantizer,
    FactorizedResidualQuantizerConfig,
    FactorizedVectorQuantizer,
    FactorizedVectorQuantizerConfig,
)
from visiontok.quantizers.finite_scalar import FiniteScalarQuantizer, FiniteScalarQuantizerConfig
from visiontok.quantizers.gradients import rotate, straight_through
from visiontok.quantizers.index_backprop import IndexBackpropQuantizer, IndexBackpropQuantizerConfig
from visiontok.quantizers.levels import LevelDropoutConfig, LeveledQuantizer
from visiontok.quantizers.multi_scale import MultiScaleQuantizer, MultiScaleQuantizerConfig
from visiontok.quantizers.nearest import nearest_codes, nearest_k_codes
from visiontok.quantizers.parts import PointwiseConfig
from visiontok.quantizers.perturbation import AnnealingConfig, LatentPerturbation, LatentPerturbationConfig
from visiontok.quantizers.phi import PhiConfig
from visiontok.quantizers.position_usage import PositionUsageConfig
from visiontok.quantizers.positional_vector import PositionalVectorQuantizer, PositionalVectorQuantizerConfig
from visiontok.quantizers.product import ProductQuantizer, ProductQuantizerConfig
from visiontok.quantizers.quantized_bottleneck import QuantizedBottleneck
from visiontok.quantizers.residual import ResidualQuantizer, ResidualQuantizerConfig
from visiontok.quantizers.sim_vq import SimVectorQuantizer, SimVectorQuantizerConfig
from visiontok.quantizers.stochastic_vector import StochasticVectorQuantizer, StochasticVectorQuantizerConfig
from visiontok.quantizers.vector import VectorQuantizer, VectorQuantizerConfig

__all__ = [
    "AnnealingConfig",
    "BernoulliQuantizer",
    "BernoulliQuantizerConfig",
    "BinaryEntropyConfig",
    "BinaryQuantizer",
    "BinaryQuantizerConfig",
    "BitOrder",
    "Bottleneck",
    "ClusteringConfig",
    "CodebookQuantizer",
    "ContinuousBottleneck",
    "DeadCodeResetConfig",
    "DimensionWiseQuantizer",
    "DimensionWiseQuantizerConfig",
    "EmaConfig",
    "FactorizedResidualQuantizer",
    "FactorizedResidualQuantizerConfig",
    "FactorizedVectorQuantizer",
    "FactorizedVectorQuantizerConfig",
    "FiniteScalarQuantizer",
    "FiniteScalarQuantizerConfig",
    "GaussianBottleneck",
    "GaussianBottleneckConfig",
    "IdentityBottleneck",
    "IdentityBottleneckConfig",
    "IndexBackpropQuantizer",
    "IndexBackpropQuantizerConfig",
    "KMeansConfig",
    "LatentPerturbation",
    "LatentPerturbationConfig",
    "LevelDropoutConfig",
    "LeveledQuantizer",
    "LogFloor",
    "MultiScaleQuantizer",
    "MultiScaleQuantizerConfig",
    "NeighborQuantizer",
    "PhiConfig",
    "PointwiseConfig",
    "PointwiseQuantizer",
    "PositionUsageConfig",
    "PositionalVectorQuantizer",
    "PositionalVectorQuantizerConfig",
    "ProductQuantizer",
    "ProductQuantizerConfig",
    "Quantized",
    "QuantizedBottleneck",
    "Quantizer",
    "ResidualQuantizer",
    "ResidualQuantizerConfig",
    "SimVectorQuantizer",
    "SimVectorQuantizerConfig",
    "StochasticVectorQuantizer",
    "StochasticVectorQuantizerConfig",
    "VectorQuantizer",
    "VectorQuantizerConfig",
    "bits_to_indices",
    "configured_by",
    "expected_code",
    "indices_to_bits",
    "nearest_codes",
    "nearest_k_codes",
    "rotate",
    "straight_through",
]
