"""Quantizers, one small class each, on shared pieces."""

from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.quantizers.binary import BinaryQuantizer, BinaryQuantizerConfig, EntropyConfig
from visiontok.quantizers.bits import BitOrder, bits_to_ids, ids_to_bits
from visiontok.quantizers.codebook_updates import EmaConfig, KMeansConfig, RevivalConfig
from visiontok.quantizers.dimension_wise import DimensionWiseConfig, DimensionWiseQuantizer
from visiontok.quantizers.entropy_terms import LogFloor
from visiontok.quantizers.finite_scalar import FiniteScalarConfig, FiniteScalarQuantizer
from visiontok.quantizers.gaussian import GaussianBottleneck, GaussianConfig
from visiontok.quantizers.nearest import nearest_codes
from visiontok.quantizers.straight_through import straight_through
from visiontok.quantizers.vector import VectorQuantizer, VectorQuantizerConfig

__all__ = [
    "BinaryQuantizer",
    "BinaryQuantizerConfig",
    "BitOrder",
    "DimensionWiseConfig",
    "DimensionWiseQuantizer",
    "EmaConfig",
    "EntropyConfig",
    "FiniteScalarConfig",
    "FiniteScalarQuantizer",
    "GaussianBottleneck",
    "GaussianConfig",
    "KMeansConfig",
    "LogFloor",
    "Quantized",
    "Quantizer",
    "RevivalConfig",
    "VectorQuantizer",
    "VectorQuantizerConfig",
    "bits_to_ids",
    "ids_to_bits",
    "nearest_codes",
    "straight_through",
]
