"""The blocks of SEANet (Tagliasacchi et al. 2020, arXiv 2009.02095) as EnCodec arranges them (Défossez et al. 2022, arXiv 2210.13438), not causal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from visiontok.base.config import Config, Positive
from visiontok.layers.snake import Snake

Activation = Literal["elu", "snake"]


class SeanetConfig(Config):
    """Sizes of an encoder, and of a decoder that mirrors it.

    Attributes:
        channels: at the full rate; they double with every stride.
        strides: of the encoder, first to last; their product is the hop.
        dim: D of the latents.
        num_residual: residual blocks of a stage, of dilations 1, b, b^2, ...
        dilation_base: b.
        residual_kernel: of the dilated convolutions.
        lstm_depth: layers of the recurrent network at the lowest rate.
        bidirectional: whether the encoder's runs in both directions; the decoder's never does.
        activation: "snake" learns a frequency for every channel.
    """

    channels: Positive = 32
    strides: tuple[Positive, ...] = Field(default=(2, 4, 5, 8), min_length=1)
    dim: Positive = 512
    num_residual: Positive = 1
    dilation_base: Positive = 2
    residual_kernel: Positive = 3
    lstm_depth: Positive = 2
    bidirectional: bool = False
    activation: Activation = "elu"

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.strides)

    @property
    def dilations(self) -> tuple[int, ...]:
        """Of the residual blocks of a stage."""
        return tuple(self.dilation_base**block for block in range(self.num_residual))


ACTIVATIONS: dict[Activation, Callable[[int], nn.Module]] = {"elu": lambda channels: nn.ELU(), "snake": Snake}
"""By name, built for a number of channels."""


class PaddedConv1d(nn.Conv1d):
    """A convolution of T samples to ceil(T / stride) frames: the ends are reflected, the left one by the odd sample more."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, dilation=dilation)

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, T) -> (B, C', ceil(T / stride))."""
        stride, length = self.stride[0], input.shape[-1]
        total = (self.kernel_size[0] - 1) * self.dilation[0] + 1 - stride
        right = total // 2
        return super().forward(reflected(input, total - right, right + -length % stride))


class TrimmedConvTranspose1d(nn.ConvTranspose1d):
    """A transposed convolution of frames to exactly `stride` samples each: what it gives beyond is cut, the odd sample on the left."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, T) -> (B, C', T * stride)."""
        decoded = super().forward(input, output_size)
        excess = self.kernel_size[0] - self.stride[0]
        return decoded[..., excess - excess // 2 : decoded.shape[-1] - excess // 2]


class SeanetBlock(nn.Module):
    """A dilated and a pointwise convolution through half the channels, added to a pointwise convolution of the input."""

    def __init__(self, channels: int, *, kernel: int, dilation: int, activation: Activation) -> None:
        super().__init__()
        act, half = ACTIVATIONS[activation], channels // 2
        self.block = nn.Sequential(act(channels), PaddedConv1d(channels, half, kernel, dilation=dilation), act(half), PaddedConv1d(half, channels, 1))
        self.shortcut = PaddedConv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        result: Tensor = self.shortcut(x) + self.block(x)
        return result


class ResidualLstm(nn.Module):
    """A recurrent network over time, added to its input, which stands twice where it runs in both directions.

    Args:
        dim: C, and of the hidden state of each direction.
        depth: layers.
        bidirectional: whether it runs in both directions; there are then 2 C channels.
    """

    def __init__(self, dim: int, depth: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dim, dim, depth, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C or 2 C, T)."""
        hidden = self.lstm(x.transpose(1, 2))[0].transpose(1, 2)
        result: Tensor = hidden + (torch.cat([x, x], dim=1) if self.lstm.bidirectional else x)
        return result


def reflected(x: Tensor, left: int, right: int) -> Tensor:
    """(B, C, T) -> (B, C, left + T + right), mirrored at both ends; sounds that are too short for it are first extended by silence."""
    missing = max(0, max(left, right) - x.shape[-1] + 1)
    padded = pad(pad(x, (0, missing)), (left, right), mode="reflect")
    return padded[..., : padded.shape[-1] - missing]
