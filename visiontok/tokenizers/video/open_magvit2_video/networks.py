"""Open-MAGVIT2's networks with a causal convolution along time in every kernel; norms and their modulation look at the whole clip."""

from __future__ import annotations

from math import prod

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.decoders.conv import AdaptiveGroupNorm
from visiontok.layers.activations import silu
from visiontok.layers.causal_conv3d import CausalConv3d
from visiontok.layers.conv import group_norm

Block = tuple[int, int, int]
"""Frames, rows and columns that become one position between two levels."""


class OpenMagvit2ClipNetConfig(Config):
    """Sizes of the encoder and of the decoder that mirrors it. Level 0 is the full resolution; sides are halved between any two levels.

    Attributes:
        channels: at full resolution.
        channel_mult: channels of each level as a multiple of `channels`.
        halves_time: whether frames are halved too, between every level and the next one.
        num_res_blocks: per level, and in the middle.
        latent_channels: at the narrow end.
        norm_groups: of every norm.
    """

    channels: Positive = 128
    channel_mult: tuple[Positive, ...] = Field(default=(1, 2, 2, 4), min_length=1)
    halves_time: tuple[bool, ...] = (False, True, True)
    num_res_blocks: Positive = 4
    latent_channels: Positive = 18
    norm_groups: Positive = 32

    @model_validator(mode="after")
    def _check(self) -> OpenMagvit2ClipNetConfig:
        if len(self.halves_time) != len(self.channel_mult) - 1:
            raise ValueError(f"halves_time {list(self.halves_time)} must have one entry fewer than channel_mult {list(self.channel_mult)}")
        for width in self.widths:
            if width % self.norm_groups:
                raise ValueError(f"norm_groups {self.norm_groups} do not divide {width} channels")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.channels * mult for mult in self.channel_mult)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """What becomes one position between every level and the next one."""
        return tuple((1 + halved, 2, 2) for halved in self.halves_time)

    @property
    def stride(self) -> Block:
        """What becomes one latent."""
        return 2 ** sum(self.halves_time), 2 ** len(self.halves_time), 2 ** len(self.halves_time)


def conv(in_channels: int, out_channels: int, kernel: int = 3, *, stride: Block = (1, 1, 1), bias: bool = True) -> CausalConv3d:
    """A causal convolution with zeros before the first frame."""
    return CausalConv3d(in_channels, out_channels, kernel, stride=stride, edge="constant", bias=bias)


class ResBlock(nn.Module):
    """Norm, swish, convolution, twice, added to the input; no biases."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(in_channels, groups), conv(in_channels, out_channels, bias=False)
        self.norm2, self.conv2 = group_norm(out_channels, groups), conv(out_channels, out_channels, bias=False)
        self.shortcut = None if in_channels == out_channels else conv(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, H, W)."""
        h = self.conv1(silu(self.norm1(x)))
        h = self.conv2(silu(self.norm2(h)))
        return h + (x if self.shortcut is None else self.shortcut(x))


def res_blocks(in_channels: int, out_channels: int, config: OpenMagvit2ClipNetConfig) -> nn.Sequential:
    """Those of a level or the middle; the first changes the number of channels."""
    widths = [in_channels] + [out_channels] * (config.num_res_blocks - 1)
    return nn.Sequential(*(ResBlock(width, out_channels, config.norm_groups) for width in widths))


class DepthToBlocks(nn.Module):
    """A convolution whose channels become the frames, rows and columns of blocks; a first frame that was doubled is one again."""

    def __init__(self, channels: int, block: Block) -> None:
        super().__init__()
        self.block = block
        self.conv = conv(channels, channels * prod(block))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 1 + T, H, W) -> (B, C, 1 + T * block, ...); channel ((t * 2 + y) * 2 + x) * C + c is channel c of the block's (t, y, x)."""
        blocks = self.conv(x).unflatten(1, (*self.block, -1))  # (B, t, y, x, C, T, H, W)
        x = blocks.permute(0, 4, 5, 1, 6, 2, 7, 3).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return torch.cat([x[:, :, :1], x[:, :, self.block[0] :]], dim=2)


class EncoderLevel(nn.Module):
    """Residual blocks, then a strided convolution, but for the last level."""

    def __init__(self, in_channels: int, out_channels: int, config: OpenMagvit2ClipNetConfig, block: Block | None) -> None:
        super().__init__()
        self.blocks = res_blocks(in_channels, out_channels, config)
        self.downsample = nn.Identity() if block is None else conv(out_channels, out_channels, stride=block)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        return self.downsample(self.blocks(x))


class DecoderLevel(nn.Module):
    """A norm modulated by the latents, residual blocks, then larger blocks, but for level 0."""

    def __init__(self, in_channels: int, out_channels: int, config: OpenMagvit2ClipNetConfig, block: Block | None) -> None:
        super().__init__()
        self.norm = AdaptiveGroupNorm(in_channels, config.latent_channels, norm_groups=config.norm_groups)
        self.blocks = res_blocks(in_channels, out_channels, config)
        self.upsample = nn.Identity() if block is None else DepthToBlocks(out_channels, block)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """(B, C, T, H, W) and latents (B, D, t, h, w) -> (B, C', T', H', W')."""
        return self.upsample(self.blocks(self.norm(x, latents)))


class ClipEncoder(nn.Module):
    """A convolution, levels, a middle, a norm and a convolution."""

    def __init__(self, config: OpenMagvit2ClipNetConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = conv(3, config.channels, bias=False)
        self.levels = nn.Sequential(
            *(
                EncoderLevel(before, width, config, block)
                for before, width, block in zip((config.channels, *widths[:-1]), widths, (*config.blocks, None), strict=True)
            )
        )
        self.mid = res_blocks(widths[-1], widths[-1], config)
        self.norm_out = group_norm(widths[-1], config.norm_groups)
        self.conv_out = conv(widths[-1], config.latent_channels, 1)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [-1, 1] -> (B, latent_channels, t, h, w)."""
        return self.conv_out(silu(self.norm_out(self.mid(self.levels(self.conv_in(clips))))))


class ClipDecoder(nn.Module):
    """A convolution, a middle, levels, of which the last runs first, a norm and a convolution."""

    def __init__(self, config: OpenMagvit2ClipNetConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = conv(config.latent_channels, widths[-1])
        self.mid = res_blocks(widths[-1], widths[-1], config)
        self.levels = nn.ModuleList(
            DecoderLevel(before, width, config, block)
            for before, width, block in zip((*widths[1:], widths[-1]), widths, (None, *config.blocks), strict=True)
        )
        self.norm_out = group_norm(widths[0], config.norm_groups)
        self.conv_out = conv(widths[0], 3)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, latent_channels, t, h, w) -> (B, 3, T, H, W), nominally in [-1, 1]."""
        x = self.mid(self.conv_in(latents))
        for level in reversed(self.levels):
            x = level(x, latents)
        return self.conv_out(silu(self.norm_out(x)))
