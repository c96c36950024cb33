"""Decoders of features to sound: ConvNeXt blocks, and a spectrum (Vocos, arXiv 2306.00814) or samples (WaveNeXt, Okamoto et al. 2023) per frame."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.decoders.vocos import CausalSpectrumHead, SpectrumHead, VocosBackbone
from visiontok.layers.carry import Carry, Edge
from visiontok.layers.frame_conv import FrameConv


class WaveformConfig(Config):
    """A decoder.

    Attributes:
        head: "vocos" for a spectrum per frame, "wavenext" for its samples.
        dim, mlp_dim, depth, kernel: of the ConvNeXt blocks.
        n_fft: samples of a frame's spectrum; of "vocos".
        hop: samples per frame.
        causal: nothing reads later frames; the spectra of "vocos" then do not overlap.
    """

    head: Literal["vocos", "wavenext"] = "vocos"
    dim: Positive = 512
    mlp_dim: Positive = 1536
    depth: Positive = 8
    kernel: Positive = 7
    n_fft: int = Field(default=1024, gt=0, multiple_of=2)
    hop: Positive = 320
    causal: bool = False

    @model_validator(mode="after")
    def _check(self) -> WaveformConfig:
        if self.head == "vocos" and (self.n_fft < self.hop or (self.n_fft - self.hop) % 2):
            raise ValueError(f"n_fft {self.n_fft} must exceed the hop {self.hop} by an even number")
        return self

    def build(self, in_dim: int) -> WaveformDecoder:
        """The decoder of features of `in_dim` channels, with random weights."""
        return WaveformDecoder(self, in_dim)


class WaveformDecoder(nn.Module):
    """Features (B, L, C) -> sound (B, 1, L * hop)."""

    def __init__(self, config: WaveformConfig, in_dim: int) -> None:
        super().__init__()
        dim, kernel, causal = config.dim, config.kernel, config.causal
        edge: Edge = "constant" if config.head == "wavenext" else "replicate"
        self.embed = FrameConv(in_dim, dim, kernel, causal=causal, edge=edge)
        self.backbone = VocosBackbone(dim, config.mlp_dim, config.depth, kernel=kernel, causal=causal, edge=edge)
        self.head = _head(config)

    def forward(self, features: Tensor, carry: Carry | None = None) -> Tensor:
        sound: Tensor = self.head(self.backbone(self.embed(features.transpose(1, 2), carry), carry))
        return sound


class SampleHead(nn.Module):
    """(B, L, D) -> (B, 1, L * hop): the samples of every frame, within [-1, 1]."""

    def __init__(self, dim: int, hop: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, hop)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).flatten(1).clamp(-1, 1)[:, None]


def _head(config: WaveformConfig) -> nn.Module:
    """(B, L, D) -> (B, 1, L * hop)."""
    if config.head == "wavenext":
        return SampleHead(config.dim, config.hop)
    kind = CausalSpectrumHead if config.causal else SpectrumHead
    return kind(config.dim, n_fft=config.n_fft, hop=config.hop)
