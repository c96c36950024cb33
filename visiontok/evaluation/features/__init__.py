"""Feature extractors by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from visiontok.evaluation.features.base import Classifier, FeatureExtractor, FunctionExtractor
from visiontok.evaluation.features.digit_classifier import DigitClassifier
from visiontok.evaluation.features.downsampled_pixels import DownsampledPixels
from visiontok.registry import unknown

EXTRACTORS: Mapping[str, type[FeatureExtractor]] = MappingProxyType({extractor.name: extractor for extractor in (DigitClassifier, DownsampledPixels)})

__all__ = ["EXTRACTORS", "Classifier", "FeatureExtractor", "FunctionExtractor", "find_extractor"]


@cache
def find_extractor(name: str) -> FeatureExtractor:
    """The extractor of that name, built once per process.

    Raises:
        UnknownNameError: with close matches.
    """
    if name not in EXTRACTORS:
        raise unknown("feature extractor", name, EXTRACTORS)
    return EXTRACTORS[name]()
