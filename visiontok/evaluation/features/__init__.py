"""Feature extractors by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

import torch
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.base.names import unknown
from visiontok.evaluation.features.base import Classifier, FeatureExtractor, FunctionExtractor
from visiontok.evaluation.features.clap import ClapHtsatFused, ClapHtsatUnfused
from visiontok.evaluation.features.clip import ClipVitL14At336
from visiontok.evaluation.features.digit_classifier import DigitClassifier
from visiontok.evaluation.features.dinov2 import DinoV2VitL14
from visiontok.evaluation.features.downsampled_pixels import DownsampledClips, DownsampledPixels
from visiontok.evaluation.features.i3d import I3DLarp, I3DOmniTokenizer, I3DStyleGANV, I3DVideoGPT
from visiontok.evaluation.features.inception import InceptionV3Clean, InceptionV3Compat, InceptionV3CompatFloat64, InceptionV3PytorchFid
from visiontok.evaluation.features.note_classifier import NoteClassifier
from visiontok.evaluation.features.sound import LogMelStatistics
from visiontok.evaluation.features.vggish import Vggish, VggishOverlapping

EXTRACTORS: Mapping[str, type[FeatureExtractor]] = MappingProxyType(
    {
        extractor.name: extractor
        for extractor in (
            DigitClassifier,
            DownsampledPixels,
            InceptionV3Compat,
            InceptionV3CompatFloat64,
            InceptionV3PytorchFid,
            InceptionV3Clean,
            DinoV2VitL14,
            ClipVitL14At336,
            DownsampledClips,
            I3DVideoGPT,
            I3DStyleGANV,
            I3DLarp,
            I3DOmniTokenizer,
            LogMelStatistics,
            NoteClassifier,
            Vggish,
            VggishOverlapping,
            ClapHtsatUnfused,
            ClapHtsatFused,
        )
    }
)

__all__ = ["EXTRACTORS", "Classifier", "FeatureExtractor", "FunctionExtractor", "all_extractors", "feature_width", "find_extractor"]


@cache
def find_extractor(name: str) -> FeatureExtractor:
    """The extractor of that name, built once per process.

    Raises:
        UnknownNameError: with close matches.
        CheckpointError: if its weights are not in the weights' folder; says how to get them.
    """
    if name not in EXTRACTORS:
        raise unknown("feature extractor", name, EXTRACTORS)
    return EXTRACTORS[name]()


def feature_width(extractor: FeatureExtractor, blank: Tensor) -> int:
    """The number of features D, found with one blank signal (1, C, *axes) in the range of its spec; a clip of as many frames as it needs."""
    if blank.ndim == 5:
        blank = blank[:, :, :1].repeat(1, 1, max(blank.shape[2], extractor.shortest_clip), 1, 1)
    is_8bit = blank.ndim == 4 and blank.shape[1] == 3
    return extractor(torch.zeros(blank.shape, dtype=torch.uint8) if is_8bit else blank).shape[-1]


def all_extractors(names: Sequence[str], own: Sequence[FeatureExtractor]) -> list[FeatureExtractor]:
    """The extractors of these names, followed by the caller's own.

    Raises:
        EvaluationError: if two have one name, so that their numbers could not be told apart.
    """
    extractors = [*(find_extractor(name) for name in names), *own]
    seen = [extractor.name for extractor in extractors]
    if len(set(seen)) < len(seen):
        raise EvaluationError(f"two extractors have one name among {', '.join(seen)}; name your own differently")
    return extractors
