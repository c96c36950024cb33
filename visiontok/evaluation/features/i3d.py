"""The extractors whose Fréchet distance is called FVD: several pipelines are in use whose values are not comparable, so each has its own name."""

from __future__ import annotations

import math
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.features.base import FeatureExtractor, described, load_into
from visiontok.evaluation.features.i3d_network import I3DNetwork
from visiontok.evaluation.features.weight_files import LoadedWeights, WeightFile, find_weights, read_weights
from visiontok.signals import SignalSpec

SIZE, FEWEST_FRAMES = 224, 10

VIDEOGPT_WEIGHTS = WeightFile(
    name="i3d_pretrained_400.pt",
    size="49 MB",
    sha256="",
    source="the I3D weights that VideoGPT and TATS evaluate with (i3d_pretrained_400.pt)",
    license="not stated",
)
STYLEGANV_WEIGHTS = WeightFile(
    name="i3d_torchscript.pt",
    size="49 MB",
    sha256="",
    source="the TorchScript port of the I3D network that StyleGAN-V evaluates with (universome/fvd-comparison)",
    license="not stated",
)


class I3D(FeatureExtractor):
    """400 logits of RGB clips (B, 3, T, H, W), uint8 or floats in [0, 1], as VideoGPT's network with `common_metrics_on_video_quality` gives them.

    Attributes:
        resize: "squash" does not keep the aspect ratio; "short-side" resizes the shorter side and crops the center.
        quantizes: whether frames are truncated to 8 bits first.
    """

    name = "i3d-videogpt"
    width = 400
    published_names = MappingProxyType({"FD": "FVD"})
    resize: ClassVar[Literal["squash", "short-side"]] = "short-side"
    quantizes: ClassVar[bool] = True
    used_by: ClassVar[str] = "common_metrics_on_video_quality, VideoGPT's network"

    def __init__(self, weights: LoadedWeights | Path | str | None = None) -> None:
        """Build the network.

        Args:
            weights: the path of the file; by default it is looked for in the weights' folder.

        Raises:
            CheckpointError: if the file is missing (says how to get it) or another one.
        """
        self.network, digest = self.load(weights)
        precision = "8-bit frames" if self.quantizes else "frames not rounded"
        self.identity = described("i3d-kinetics-400", self.resize, precision, str(self.unbiased), digest)
        self.protocol = f"I3D logits, {precision}, bilinear {self.resize} to {SIZE}, [-1, 1], weights {digest[:12]} ({self.used_by})"

    def load(self, weights: LoadedWeights | Path | str | None) -> tuple[nn.Module, str]:
        """The network, and the digest of its file."""
        loaded = weights if isinstance(weights, LoadedWeights) else read_weights(VIDEOGPT_WEIGHTS, weights)
        return load_into(I3DNetwork(), loaded, what="the I3D network"), loaded.sha256

    def takes(self, spec: SignalSpec) -> bool:
        return spec.modality == "video" and spec.is_rgb

    def to(self, device: torch.device | str) -> Self:
        self.network.to(device)
        return self

    def check(self, samples: Tensor) -> None:
        if samples.ndim != 5 or samples.shape[1] != 3:
            raise EvaluationError(f"{self.name} takes clips (B, 3, T, H, W), got {tuple(samples.shape)}")
        if samples.shape[2] < FEWEST_FRAMES:
            raise EvaluationError(
                f"clips of {samples.shape[2]} frames are too short: the network needs {FEWEST_FRAMES}, published values use 16 or 17"
            )

    def extract(self, samples: Tensor) -> Tensor:
        clips = samples.float() / 255 if samples.dtype == torch.uint8 else samples
        prepared = prepare_clips(clips, resize=self.resize, quantize=self.quantizes)
        device = next((parameter.device for parameter in self.network.parameters()), torch.device("cpu"))
        return self.logits(prepared.to(device))

    def logits(self, clips: Tensor) -> Tensor:
        """(B, 400) of clips (B, 3, T, 224, 224) in [-1, 1]."""
        return self.network(clips)


class I3DStyleGANV(I3D):
    """As `common_metrics_on_video_quality` reads clips with StyleGAN-V's network, a TorchScript file."""

    name = "i3d-styleganv"
    quantizes = False
    used_by = "common_metrics_on_video_quality, StyleGAN-V's network"

    def load(self, weights: LoadedWeights | Path | str | None) -> tuple[nn.Module, str]:
        if isinstance(weights, LoadedWeights):
            raise EvaluationError(f"{self.name} takes the path of a TorchScript file, not tensors")
        path, digest = find_weights(STYLEGANV_WEIGHTS, weights)
        return torch.jit.load(path, map_location="cpu").eval(), digest

    def logits(self, clips: Tensor) -> Tensor:
        return self.network(clips, rescale=False, resize=False, return_features=True)


class I3DLarp(I3DStyleGANV):
    """As LARP: whole frames squashed, covariances over N."""

    name = "i3d-larp"
    resize = "squash"
    unbiased = False
    used_by = "LARP, StyleGAN-V's network"


class I3DOmniTokenizer(I3D):
    """As OmniTokenizer's rFVD: whole frames squashed, 8-bit."""

    name = "i3d-omnitokenizer"
    resize = "squash"
    used_by = "OmniTokenizer's rFVD, VideoGPT's network"


def prepare_clips(clips: Tensor, *, resize: Literal["squash", "short-side"], quantize: bool) -> Tensor:
    """Clips (B, 3, T, H, W) in [0, 1] as the network takes them: (B, 3, T, 224, 224) in [-1, 1]."""
    frames = clips.clamp(0, 1).transpose(1, 2).flatten(0, 1)
    if quantize:
        frames = (frames * 255).to(torch.uint8).float() / 255
    height, width = frames.shape[-2:]
    if resize == "squash":
        target = (SIZE, SIZE)
    else:
        scale = SIZE / min(height, width)
        target = (SIZE, math.ceil(width * scale)) if height <= width else (math.ceil(height * scale), SIZE)
    frames = F.interpolate(frames, size=target, mode="bilinear", align_corners=False)
    top, left = (target[0] - SIZE) // 2, (target[1] - SIZE) // 2
    frames = frames[..., top : top + SIZE, left : left + SIZE]
    return (2 * frames - 1).unflatten(0, (len(clips), -1)).transpose(1, 2)
