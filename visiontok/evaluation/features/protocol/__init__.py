"""The steps between a model's output and a number that differ between published evaluations: crops, casts and resizes, each by name."""

from visiontok.evaluation.features.protocol.casts import CASTS, signed_to_uint8, to_uint8
from visiontok.evaluation.features.protocol.crops import CROPS, center_crop
from visiontok.evaluation.features.protocol.published import PROTOCOLS, Protocol, find_protocol
from visiontok.evaluation.features.protocol.resizes import RESIZES, resize_for_inception

__all__ = [
    "CASTS",
    "CROPS",
    "PROTOCOLS",
    "RESIZES",
    "Protocol",
    "center_crop",
    "find_protocol",
    "resize_for_inception",
    "signed_to_uint8",
    "to_uint8",
]
