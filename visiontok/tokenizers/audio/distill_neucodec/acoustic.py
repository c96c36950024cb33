"""The acoustic encoder of DistillNeuCodec: SQCodec's convolutions (Zhai et al. 2025, arXiv 2504.04949), and transformers over windows."""

from __future__ import annotations

import math

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.layers.local_attention import attend_in_blocks, distances
from visiontok.layers.snake import Snake

POOLS = (1, 5, 11, 21, 45)
"""Samples over which the branches of the first layer read the envelope; the first reads the sound itself."""

NUM_HEADS = 6
"""Of every attention; each head is a quarter of the model wide."""

_BRANCH_CHANNELS, _MIXED_CHANNELS = 4, 80
_EPS = torch.finfo(torch.float32).eps


class AcousticConfig(Config):
    """Sizes.

    Attributes:
        dims: channels before every stride, and behind the last.
        depths: convolutional units at each of these.
        strides: of the convolutions between them.
        dim: of the transformers.
        stride: of the convolution between the two transformers.
        window: frames of a window of the second transformer; of the first, `stride` times as many.
    """

    dims: tuple[Positive, ...] = (32, 64, 128, 256)
    depths: tuple[Positive, ...] = (1, 1, 1, 2)
    strides: tuple[Positive, ...] = (4, 4, 4)
    dim: int = Field(default=512, gt=0, multiple_of=4)
    stride: Positive = 5
    window: Positive = 300

    @model_validator(mode="after")
    def _check(self) -> AcousticConfig:
        if not len(self.dims) == len(self.depths) == len(self.strides) + 1:
            raise ValueError(f"dims {self.dims} and depths {self.depths} must be one more than strides {self.strides}")
        return self

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.strides) * self.stride


class AcousticEncoder(nn.Module):
    """Sound (B, 1, T), T a multiple of the hop -> (B, T / hop, D)."""

    def __init__(self, config: AcousticConfig) -> None:
        super().__init__()
        dims = config.dims
        layers: list[nn.Module] = [Envelopes(dims[0])]
        for level, (channels, depth) in enumerate(zip(dims, config.depths, strict=True)):
            layers.append(nn.Sequential(*(ConvUnit(channels) for _ in range(depth))))
            if level < len(config.strides):
                stride = config.strides[level]
                layers.append(nn.Conv1d(channels, dims[level + 1], stride, stride=stride))
        self.conv = nn.Sequential(*layers, nn.Conv1d(dims[-1], config.dim, 3, padding=1))
        self.fine = LocalTransformer(config.dim, depth=2, window=config.stride * config.window)
        self.down = nn.Conv1d(config.dim, config.dim, config.stride, stride=config.stride)
        self.coarse = LocalTransformer(config.dim, depth=3, window=config.window)

    def forward(self, signal: Tensor) -> Tensor:
        hidden = self.fine(self.conv(signal).transpose(1, 2))
        result: Tensor = self.coarse(self.down(hidden.transpose(1, 2)).transpose(1, 2))
        return result


class Envelopes(nn.Module):
    """Convolutions over the sound and over its envelopes of several widths, mixed; (B, 1, T) -> (B, C, T)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv1d(1, _BRANCH_CHANNELS, 7, padding=3) for _ in POOLS)
        self.mix = nn.Conv1d(_BRANCH_CHANNELS * len(POOLS), _MIXED_CHANNELS, 1)
        self.out = nn.Conv1d(_MIXED_CHANNELS + 1, dim, 1)

    def forward(self, signal: Tensor) -> Tensor:
        read = [branch(signal if pool == 1 else envelope(signal, pool)) for branch, pool in zip(self.branches, POOLS, strict=True)]
        result: Tensor = self.out(torch.cat([F.gelu(self.mix(torch.cat(read, dim=1))), signal], dim=1))
        return result


def envelope(signal: Tensor, width: int) -> Tensor:
    """(B, C, T) -> (B, C, T): the largest magnitudes within `width` samples, averaged over as many; zeros beyond the ends count."""
    peaks = F.max_pool1d(signal.abs(), width, stride=1, padding=width // 2)
    return F.avg_pool1d(peaks, width, stride=1, padding=width // 2)


class ConvUnit(nn.Module):
    """A depthwise convolution and two linear layers around a Snake and a global response norm, added to the input; (B, C, T) -> (B, C, T)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.linear1, self.linear2 = nn.Conv1d(dim, 4 * dim, 1), nn.Conv1d(4 * dim, dim, 1)
        self.act = Snake(4 * dim)
        self.norm = ResponseNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.linear2(self.norm(self.act(self.linear1(self.conv(x)))))
        return result


class ResponseNorm(nn.Module):
    """Global response normalization (Woo et al. 2023, arXiv 2301.00808) by the norm of the whole sound, over time and channels together.

    State:
        gamma, beta: (C, 1).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.zeros(dim, 1)), nn.Parameter(torch.zeros(dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        response = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        return self.gamma * (x * (response / (response + _EPS))) + self.beta + x


class LocalTransformer(nn.Module):
    """Layers whose frames see those before them in their own window and in the whole window before; (B, L, D) -> (B, L, D)."""

    def __init__(self, dim: int, *, depth: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.bias = nn.Sequential(nn.Linear(1, dim // 2), nn.SiLU(), nn.Linear(dim // 2, dim // 2), nn.SiLU(), nn.Linear(dim // 2, NUM_HEADS))
        self.layers = nn.ModuleList(LocalLayer(dim) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        bias = self.biases(x)
        for layer in self.layers:
            x = layer(x, bias)
        return x

    def biases(self, x: Tensor) -> Tensor:
        """(heads, window, 2 window) by distance, -infinity for what a query does not see."""
        by_distance = self.bias(torch.arange(2 * self.window, device=x.device, dtype=x.dtype)[:, None])
        distance = distances(self.window, x.device)
        bias = by_distance[distance.clamp_min(0)].permute(2, 0, 1)
        return bias.masked_fill(distance < 0, -torch.inf)


class LocalLayer(nn.Module):
    """Attention and a gated feed-forward network, each after a norm and added."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner, hidden = NUM_HEADS * (dim // 4), int(dim * 8 / 3)
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * inner, bias=False), nn.Linear(inner, dim, bias=False)
        self.linear1, self.linear2 = nn.Linear(dim, 2 * hidden, bias=False), nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, L, D) with biases (heads, window, 2 window) -> (B, L, D)."""
        query, key, value = self.qkv(self.attention_norm(x)).unflatten(-1, (3, NUM_HEADS, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(attend_in_blocks(query, key, value, bias).transpose(1, 2).flatten(2))
        value, gate = self.linear1(self.feed_forward_norm(x)).chunk(2, dim=-1)
        result: Tensor = x + self.linear2(value * F.gelu(gate))
        return result
