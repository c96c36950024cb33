"""The signal itself, averaged down: extractors without weights, for smoke tests and for detecting coarse errors of color."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.evaluation.features.base import FeatureExtractor, described
from visiontok.signals import SignalSpec

SIDE, FRAMES = 8, 4


class DownsampledPixels(FeatureExtractor):
    """Means over 8 x 8 equal areas of each channel in [0, 1]: 192 features."""

    name = "downsampled-pixels"
    identity = described("downsampled-pixels", "area means 8x8x3 in [0, 1]")
    protocol = "means over 8 x 8 equal areas per RGB channel, in [0, 1]"

    def extract(self, samples: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(samples.double() / 255, SIDE).flatten(1)


class DownsampledClips(FeatureExtractor):
    """Means over 4 x 4 equal areas and 4 equal spans of time of RGB clips: 192 features."""

    name = "downsampled-clips"
    identity = described("downsampled-clips", "means 4x4x4x3 in [0, 1]")
    protocol = "means over 4 equal spans of time x 4 x 4 equal areas per RGB channel, in [0, 1]"

    def takes(self, spec: SignalSpec) -> bool:
        return spec.modality == "video" and spec.is_rgb

    def check(self, samples: Tensor) -> None:
        return

    def extract(self, samples: Tensor) -> Tensor:
        clips = samples.double() / (255 if samples.dtype == torch.uint8 else 1)
        return F.adaptive_avg_pool3d(clips, (FRAMES, SIDE // 2, SIDE // 2)).flatten(1)
