"""Decoders of features to sound: ConvNeXt blocks, and a spectrum (Vocos, arXiv 2306.00814) or samples (WaveNeXt, Okamoto et al. 2023) per frame."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.tokenizers.audio.focalcodec.frames import Edge, FrameConv

_MAX_MAGNITUDE = 100.0


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
        head = SampleHead(self.dim, self.hop) if self.head == "wavenext" else SpectrumHead(self)
        return WaveformDecoder(Backbone(self, in_dim, edge="constant" if self.head == "wavenext" else "replicate"), head)


class WaveformDecoder(nn.Module):
    """Features (B, L, C) -> sound (B, L * hop)."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, features: Tensor) -> Tensor:
        sound: Tensor = self.head(self.backbone(features))
        return sound


class Backbone(nn.Module):
    """(B, L, C) -> (B, L, D): a convolution, and ConvNeXt blocks between two norms."""

    def __init__(self, config: WaveformConfig, in_dim: int, *, edge: Edge) -> None:
        super().__init__()
        self.embedding = FrameConv(in_dim, config.dim, config.kernel, causal=config.causal, edge=edge)
        self.input_norm, self.output_norm = nn.LayerNorm(config.dim, eps=1e-6), nn.LayerNorm(config.dim, eps=1e-6)
        self.layers = nn.ModuleList(ConvNeXtBlock(config, edge=edge) for _ in range(config.depth))

    def forward(self, features: Tensor) -> Tensor:
        x = self.input_norm(self.embedding(features.transpose(1, 2)).transpose(1, 2))
        for layer in self.layers:
            x = layer(x)
        result: Tensor = self.output_norm(x)
        return result


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, a norm and two linear layers, scaled per channel and added; (B, L, D) -> (B, L, D)."""

    def __init__(self, config: WaveformConfig, *, edge: Edge) -> None:
        super().__init__()
        dim = config.dim
        self.dwconv = FrameConv(dim, dim, config.kernel, causal=config.causal, edge=edge, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, config.mlp_dim), nn.Linear(config.mlp_dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), 1 / config.depth))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.dwconv(x.transpose(1, 2)).transpose(1, 2))
        result: Tensor = x + self.gamma * self.pwconv2(F.gelu(self.pwconv1(hidden)))
        return result


class SampleHead(nn.Module):
    """(B, L, D) -> (B, L * hop): the samples of every frame, within [-1, 1]."""

    def __init__(self, dim: int, hop: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, hop)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(1).clamp(-1, 1)


class SpectrumHead(nn.Module):
    """(B, L, D) -> (B, L * hop): logarithmic magnitudes and phases of every frame, and their inverse Fourier transform in float32."""

    window: Tensor

    def __init__(self, config: WaveformConfig) -> None:
        super().__init__()
        self.config = config
        self.proj = nn.Linear(config.dim, config.n_fft + 2)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        magnitude, phase = self.proj(x).float().chunk(2, dim=-1)
        frames = torch.fft.irfft(torch.polar(magnitude.exp().clamp_max(_MAX_MAGNITUDE), phase), n=self.config.n_fft)
        sound = frames[..., -self.config.hop :].flatten(1) if self.config.causal else self._overlapped(frames)
        return sound.to(x.dtype)

    def _overlapped(self, frames: Tensor) -> Tensor:
        """Frames (B, L, n_fft) -> (B, L * hop): windowed, added up, and divided by the sum of the squared windows."""
        window, hop, count = self.window.float(), self.config.hop, frames.shape[1]
        total, cut = (count - 1) * hop + len(window), (len(window) - hop) // 2

        def added(parts: Tensor) -> Tensor:
            return F.fold(parts.transpose(1, 2), (1, total), kernel_size=(1, len(window)), stride=(1, hop))[:, 0, 0, cut : total - cut]

        return added(frames * window) / added(window.square().expand(1, count, -1))
