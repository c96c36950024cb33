"""The picture itself, averaged down to 8 x 8: a weight-free extractor for smoke tests and for seeing coarse colour go wrong."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from visiontok.evaluation.features.base import FeatureExtractor, described

SIDE = 8


class DownsampledPixels(FeatureExtractor):
    """Means over 8 x 8 equal areas of each channel in [0, 1]: 192 features."""

    name = "downsampled-pixels"
    identity = described("downsampled-pixels", "area means 8x8x3 in [0, 1]")
    protocol = "means over 8 x 8 equal areas per RGB channel, in [0, 1]"

    def extract(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images.double() / 255, SIDE).flatten(1)
