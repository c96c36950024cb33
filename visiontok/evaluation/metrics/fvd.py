"""Fréchet video distance: two pipelines are in circulation whose numbers do not compare, so each is a protocol by name.

The network, Inception 3D trained on Kinetics-400 with 400 logits, comes from the caller: it maps clips (B, 3, T, 224, 224) in [-1, 1] to
(B, 400).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.base.errors import EvaluationError
from visiontok.evaluation.features.statistics import Statistics
from visiontok.evaluation.metrics.accumulator import Accumulator, State
from visiontok.evaluation.metrics.frechet import frechet_distance
from visiontok.evaluation.metrics.moments import Moments

SIZE, FEWEST_FRAMES = 224, 10
VideoFeatures = Callable[[Tensor], Tensor]


class FvdProtocol(Config):
    """What happens to a clip before the network, and which covariance is taken.

    Attributes:
        name: to ask for it.
        resize: "squash" gives up the aspect ratio; "short-side" resizes the shorter side and cuts out the centre.
        quantize: whether frames are truncated to 8 bits first.
        unbiased: covariances over n - 1, or over n.
        used_by: whose published figures follow it.
    """

    name: str
    resize: Literal["squash", "short-side"]
    quantize: bool
    unbiased: bool
    used_by: str


FVD_PROTOCOLS: Mapping[str, FvdProtocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            FvdProtocol(name="larp", resize="squash", quantize=False, unbiased=False, used_by="LARP, StyleGAN-V's network"),
            FvdProtocol(name="omnitokenizer", resize="squash", quantize=True, unbiased=True, used_by="OmniTokenizer's rFVD, VideoGPT's network"),
            FvdProtocol(
                name="styleganv", resize="short-side", quantize=False, unbiased=True, used_by="common_metrics_on_video_quality, StyleGAN-V's network"
            ),
            FvdProtocol(
                name="videogpt", resize="short-side", quantize=True, unbiased=True, used_by="common_metrics_on_video_quality, VideoGPT's network"
            ),
        )
    }
)


def prepare_clips(clips: Tensor, protocol: FvdProtocol) -> Tensor:
    """Clips (B, 3, T, H, W) in [0, 1] as the network takes them: (B, 3, T, 224, 224) in [-1, 1].

    Raises:
        EvaluationError: for another shape, or fewer than 10 frames, which the network cannot pool.
    """
    if clips.ndim != 5 or clips.shape[1] != 3:
        raise EvaluationError(f"clips must be (B, 3, T, H, W), got {tuple(clips.shape)}")
    if clips.shape[2] < FEWEST_FRAMES:
        raise EvaluationError(f"clips of {clips.shape[2]} frames are too short: the network needs {FEWEST_FRAMES}, published values use 16 or 17")
    frames = clips.clamp(0, 1).transpose(1, 2).flatten(0, 1)
    if protocol.quantize:
        frames = (frames * 255).to(torch.uint8).float() / 255
    height, width = frames.shape[-2:]
    if protocol.resize == "squash":
        target = (SIZE, SIZE)
    else:
        scale = SIZE / min(height, width)
        target = (SIZE, int(np.ceil(width * scale))) if height <= width else (int(np.ceil(height * scale)), SIZE)
    frames = F.interpolate(frames, size=target, mode="bilinear", align_corners=False)
    top, left = (target[0] - SIZE) // 2, (target[1] - SIZE) // 2
    frames = frames[..., top : top + SIZE, left : left + SIZE]
    return (2 * frames - 1).unflatten(0, (len(clips), -1)).transpose(1, 2)


class FrechetVideoDistance(Accumulator):
    """Streaming moments of both sides; shards agree with a single process up to rounding."""

    def __init__(self, features: VideoFeatures, *, protocol: FvdProtocol) -> None:
        self._features, self._protocol = features, protocol
        self._real, self._fake = Moments(), Moments()

    def update(self, real: Tensor, fake: Tensor) -> None:
        """Add a batch of real clips and one of reconstructed or generated ones, each (B, 3, T, H, W) in [0, 1]."""
        for moments, clips in ((self._real, real), (self._fake, fake)):
            with torch.no_grad():
                moments.update(self._features(prepare_clips(clips, self._protocol)))

    def merge(self, other: FrechetVideoDistance) -> None:
        self._real.merge(other._real)
        self._fake.merge(other._fake)

    def state(self) -> State:
        sides = {"real": self._real, "fake": self._fake}
        return {f"{side}.{key}": value for side, moments in sides.items() for key, value in moments.state().items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        for side, moments in (("real", self._real), ("fake", self._fake)):
            moments.load_state({key.removeprefix(f"{side}."): value for key, value in state.items() if key.startswith(f"{side}.")})

    def compute(self) -> float:
        """The distance. With fewer clips than features it is biased upwards: state N beside it.

        Raises:
            EvaluationError: with fewer than two clips, or unequal numbers of them.
        """
        real, fake = self._real.compute(), self._fake.compute()
        if real.count != fake.count:
            raise EvaluationError(f"{real.count} real and {fake.count} other clips: the distance depends on N, take as many of both")
        return frechet_distance(real.mean, self._covariance(real), fake.mean, self._covariance(fake))

    def _covariance(self, side: Statistics) -> np.ndarray:
        return side.covariance if self._protocol.unbiased else side.covariance * ((side.count - 1) / side.count)
