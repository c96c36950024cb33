"""Convolutional blocks of the VQGAN family."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.config import Config
from visiontok.layers.activations import silu

Shortcut = Literal["input", "output"]


class ConvNetConfig(Config):
    """Sizes of a convolutional encoder or decoder; the two mirror each other.

    Attributes:
        channels: width at full resolution.
        channel_mult: width of each level as a multiple, full resolution first; the stride is 2 ** (levels - 1).
        num_res_blocks: residual blocks per level, and in the middle.
        latent_channels: channels at the narrow end.
        shortcut: see `ResBlock`.
        norm_groups: of every GroupNorm; each group forgets its mean and scale, so narrow nets need few of them to keep brightness and contrast.
    """

    channels: int = Field(default=128, gt=0)
    channel_mult: tuple[int, ...] = Field(default=(1, 1, 2, 2, 4), min_length=1)
    num_res_blocks: int = Field(default=2, gt=0)
    latent_channels: int = Field(default=256, gt=0)
    shortcut: Shortcut = "output"
    norm_groups: int = Field(default=32, gt=0)

    @model_validator(mode="after")
    def _check(self) -> ConvNetConfig:
        for width in self.widths:
            if width % self.norm_groups:
                raise ValueError(f"norm_groups {self.norm_groups} do not divide a width of {width}")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.channels * mult for mult in self.channel_mult)

    @property
    def stride(self) -> int:
        return 2 ** (len(self.channel_mult) - 1)


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """GroupNorm with eps 1e-6, as everywhere in this family."""
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResBlock(nn.Module):
    """Norm, swish, 3x3 convolution, twice, and a shortcut.

    Args:
        in_channels, out_channels: widths.
        bias: of the convolutions.
        shortcut: what the 1x1 convolution of a width-changing block reads. "input" is the usual residual. "output" is MaskGIT's: the
            convolution reads the block's own output and the input is dropped; the released weights were trained that way.
        norm_groups: of both norms.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool, shortcut: Shortcut, norm_groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels, norm_groups)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
        self.norm2 = group_norm(out_channels, norm_groups)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=bias)
        self.shortcut: nn.Conv2d | None = None
        self.shortcut_reads_output = shortcut == "output"
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(out_channels if self.shortcut_reads_output else in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H, W)."""
        h = silu(self.norm2(self.conv1(silu(self.norm1(x)))))
        h = self.conv2(h)
        if self.shortcut is None:
            return x + h
        return h + self.shortcut(h if self.shortcut_reads_output else x)


def res_blocks(in_channels: int, out_channels: int, config: ConvNetConfig) -> nn.Sequential:
    """As many residual blocks as the configuration says; the first changes the width."""
    widths = [in_channels] + [out_channels] * (config.num_res_blocks - 1)
    return nn.Sequential(*(ResBlock(width, out_channels, bias=False, shortcut=config.shortcut, norm_groups=config.norm_groups) for width in widths))


class Upsample(nn.Module):
    """Nearest-neighbour doubling and a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
