"""The extractors whose Fréchet distance is called FVD: several pipelines are in use whose values are not comparable, so each has its own name."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from visiontok.base.config import Config
from visiontok.base.errors import EvaluationError
from visiontok.evaluation.features.base import FeatureExtractor, described, load_into
from visiontok.evaluation.features.i3d_network import I3DNetwork
from visiontok.evaluation.features.weight_files import LoadedWeights, WeightFile, find_weights, verified_weights
from visiontok.signals import SignalSpec

SIZE, FEWEST_FRAMES = 224, 10

Resize: TypeAlias = Literal["squash", "short-side"]

VIDEOGPT_WEIGHTS = WeightFile(
    name="i3d_pretrained_400.pt",
    size="49 MB",
    sha256="",
    source="the I3D weights that VideoGPT and TATS evaluate with (fvd/videogpt of https://github.com/JunyaoHu/common_metrics_on_video_quality)",
    license="not stated",
    git_sha1="a867b87ac3a9097d200598b1d48a1b890d8ec744",
)
STYLEGANV_WEIGHTS = WeightFile(
    name="i3d_torchscript.pt",
    size="51 MB",
    sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
    source="the TorchScript port of the I3D network that StyleGAN-V evaluates with (https://github.com/universome/fvd-comparison)",
    license="not stated",
)


class I3DPipeline(Config):
    """From clips to 400 logits: everything that two published values of FVD may differ in.

    Attributes:
        network: "videogpt" is a state dict, "styleganv" a TorchScript file; both are ports of one network, and their values differ.
        weights: path of its file, which must be the published one; None looks in the weights' folder.
        frames: the first so many of every clip are read; shorter clips are refused. Published values have 16 or 17.
        resize: "squash" does not keep the aspect ratio; "short-side" resizes the shorter side and crops the center. Both are bilinear to 224 pixels.
        quantize: whether frames are truncated to 8 bits first.
        unbiased: whether covariances are over N - 1, or over N.
    """

    network: Literal["videogpt", "styleganv"] = "videogpt"
    weights: str | None = None
    frames: Annotated[int, Field(ge=FEWEST_FRAMES)] = 16
    resize: Resize = "short-side"
    quantize: bool = True
    unbiased: bool = True

    @property
    def name(self) -> str:
        """Of the extractor: all choices but the path."""
        rounding, rule = "8bit" if self.quantize else "float", "unbiased" if self.unbiased else "biased"
        return f"i3d-{self.network}-{self.frames}-{self.resize}-{rounding}-{rule}"


class I3D(FeatureExtractor):
    """400 logits of RGB clips (B, 3, T, H, W), uint8 or floats in [0, 1].

    The distance is called FVD if the weights come from the published file. The trace of the matrix square root is exact, where published programs
    take scipy's `sqrtm` or a singular value decomposition.

    Attributes:
        pipeline: how clips are read.
        used_by: works whose values follow it, in words.
    """

    pipeline: I3DPipeline
    used_by: str = "by no published values"

    def __init__(self, pipeline: I3DPipeline | None = None, *, weights: LoadedWeights | None = None) -> None:
        """Build the network.

        Args:
            pipeline: how clips are read; None for that of the class.
            weights: of VideoGPT's network, instead of a file; the distance is then not called FVD.

        Raises:
            CheckpointError: if the file is missing (says how to get it) or another one.
        """
        if pipeline is not None:
            self.pipeline, self.name = pipeline, pipeline.name
        chosen = self.pipeline
        self.network, digest = self.load(weights)
        self.unbiased, self.shortest_clip = chosen.unbiased, chosen.frames
        self.published_names = MappingProxyType({} if weights is not None else {"FD": "FVD"})
        self.identity = described("i3d-kinetics-400", chosen.replace(weights=None).model_dump_json(), digest)
        precision = "8-bit frames" if chosen.quantize else "frames not rounded"
        self.protocol = (
            f"I3D logits of the first {chosen.frames} frames, {precision}, bilinear {chosen.resize} to {SIZE}, [-1, 1], exact square root, "
            f"weights {chosen.network} {digest[:12]} (used {self.used_by})"
        )

    def load(self, weights: LoadedWeights | None) -> tuple[nn.Module, str]:
        """The network, and the digest of its file."""
        if weights is None and self.pipeline.network == "styleganv":
            path, digest = find_weights(STYLEGANV_WEIGHTS, self.pipeline.weights)
            return torch.jit.load(path, map_location="cpu").eval(), digest
        loaded = weights or verified_weights(VIDEOGPT_WEIGHTS, self.pipeline.weights)
        return load_into(I3DNetwork(), loaded, what="the I3D network"), loaded.sha256

    def takes(self, spec: SignalSpec) -> bool:
        return spec.modality == "video" and spec.is_rgb

    def to(self, device: torch.device | str) -> Self:
        self.network.to(device)
        return self

    def check(self, samples: Tensor) -> None:
        if samples.ndim != 5 or samples.shape[1] != 3:
            raise EvaluationError(f"{self.name} takes clips (B, 3, T, H, W), got {tuple(samples.shape)}")
        if samples.shape[2] < self.pipeline.frames:
            raise EvaluationError(
                f"clips of {samples.shape[2]} frames are too short: {self.name} reads the first {self.pipeline.frames}; the network needs "
                f"{FEWEST_FRAMES}, see fvd.frames of the suites"
            )

    def extract(self, samples: Tensor) -> Tensor:
        first = samples[:, :, : self.pipeline.frames]
        clips = first.float() / 255 if samples.dtype == torch.uint8 else first
        prepared = prepare_clips(clips, resize=self.pipeline.resize, quantize=self.pipeline.quantize)
        device = next((parameter.device for parameter in self.network.parameters()), torch.device("cpu"))
        return self.logits(prepared.to(device))

    def logits(self, clips: Tensor) -> Tensor:
        """(B, 400) of clips (B, 3, T, 224, 224) in [-1, 1]."""
        if self.pipeline.network == "styleganv":
            return self.network(clips, rescale=False, resize=False, return_features=True)
        return self.network(clips)


class I3DVideoGPT(I3D):
    """As `common_metrics_on_video_quality` reads clips with VideoGPT's network."""

    name = "i3d-videogpt"
    pipeline = I3DPipeline()
    used_by = "by common_metrics_on_video_quality with VideoGPT's network"


class I3DStyleGANV(I3D):
    """As `common_metrics_on_video_quality` reads clips with StyleGAN-V's network."""

    name = "i3d-styleganv"
    pipeline = I3DPipeline(network="styleganv", quantize=False)
    used_by = "by common_metrics_on_video_quality with StyleGAN-V's network"


class I3DLarp(I3D):
    """As LARP: whole frames squashed, covariances over N."""

    name = "i3d-larp"
    pipeline = I3DPipeline(network="styleganv", resize="squash", quantize=False, unbiased=False)
    used_by = "by LARP"


class I3DOmniTokenizer(I3D):
    """As OmniTokenizer's rFVD: 17 whole frames squashed, 8-bit."""

    name = "i3d-omnitokenizer"
    pipeline = I3DPipeline(frames=17, resize="squash")
    used_by = "by OmniTokenizer's rFVD"


def prepare_clips(clips: Tensor, *, resize: Resize, quantize: bool) -> Tensor:
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
