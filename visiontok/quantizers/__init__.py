"""Quantizers, one small class each, on shared pieces."""

from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.quantizers.codebook_updates import EmaConfig, KMeansConfig, RevivalConfig
from visiontok.quantizers.gaussian import GaussianBottleneck, GaussianConfig
from visiontok.quantizers.nearest import nearest_codes
from visiontok.quantizers.straight_through import straight_through
from visiontok.quantizers.vector import VectorQuantizer, VectorQuantizerConfig

__all__ = [
    "EmaConfig",
    "GaussianBottleneck",
    "GaussianConfig",
    "KMeansConfig",
    "Quantized",
    "Quantizer",
    "RevivalConfig",
    "VectorQuantizer",
    "VectorQuantizerConfig",
    "nearest_codes",
    "straight_through",
]
