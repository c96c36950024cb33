"""The causal networks of Cosmos: convolutions and attention within frames, then along time; norms of single frames; wavelets at the ends."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.layers.activations import silu
from visiontok.layers.carry import Carry, preceded, trimmed
from visiontok.layers.causal_conv3d import CausalConv3d
from visiontok.layers.conv import AttentionBlock
from visiontok.layers.frames import FrameNorm, as_clips, as_frames
from visiontok.tokenizers.shared.cosmos import Patches

Resampling = Literal["none", "space", "time", "space-time"]
"""What is halved or doubled between two levels."""

WITHIN_FRAMES, ALONG_TIME, POINTWISE = (1, 3, 3), (3, 1, 1), (1, 1, 1)


class CosmosNetConfig(Config):
    """Sizes of an encoder or a decoder. Level 0 is the finest, of whole patches.

    Attributes:
        channels: before the first level.
        channel_mult: channels of each level as a multiple of `channels`.
        num_res_blocks: per level.
        latent_channels: at the narrow end.
        resampling: between every level and the next one.
        attention_levels: levels with attention after every residual block; the middle always has it.
    """

    channels: Positive = 128
    channel_mult: tuple[Positive, ...] = Field(default=(2, 4, 4), min_length=1)
    num_res_blocks: Positive = 2
    latent_channels: Positive = 16
    resampling: tuple[Resampling, ...]
    attention_levels: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> CosmosNetConfig:
        levels = len(self.channel_mult)
        if len(self.resampling) != levels - 1:
            raise ValueError(f"resampling {list(self.resampling)} must have one entry fewer than channel_mult {list(self.channel_mult)}")
        if not set(self.attention_levels) <= set(range(levels)):
            raise ValueError(f"attention_levels {list(self.attention_levels)} names levels beyond the {levels} of channel_mult")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.channels * mult for mult in self.channel_mult)

    @property
    def factors(self) -> tuple[int, int]:
        """By which all resampling together divides frames and sides."""
        time, space = (2 ** sum(axis in how for how in self.resampling) for axis in ("time", "space"))
        return time, space


class FactorizedConv(nn.Module):
    """A convolution within frames, then one along time."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.space = CausalConv3d(in_channels, out_channels, WITHIN_FRAMES)
        self.time = CausalConv3d(out_channels, out_channels, ALONG_TIME)

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, H, W)."""
        return self.time(self.space(x), carry)


class ResBlock(nn.Module):
    """Norm, swish, convolution, twice, added to the input."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = FrameNorm(in_channels), FactorizedConv(in_channels, out_channels)
        self.norm2, self.conv2 = FrameNorm(out_channels), FactorizedConv(out_channels, out_channels)
        self.shortcut = None if in_channels == out_channels else CausalConv3d(in_channels, out_channels, POINTWISE)

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, H, W)."""
        h = self.conv1(silu(self.norm1(x)), carry)
        h = self.conv2(silu(self.norm2(h)), carry)
        return h + (x if self.shortcut is None else self.shortcut(x))


class TimeAttention(nn.Module):
    """Norm and one head of causal attention of every pixel along time, added to the input. The carry keeps keys and values of all earlier frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = FrameNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        pixels = self.norm(x).permute(0, 3, 4, 2, 1)  # (B, H, W, T, C)
        query, key, value = self.qkv(pixels).chunk(3, dim=-1)
        if (kept := carry.get(self)) is not None:
            key, value = (torch.cat([before, now], dim=-2) for before, now in zip(kept, (key, value), strict=True))
        carry.keep(self, (key, value))
        shape = (query.shape[-2], key.shape[-2])
        seen = torch.ones(shape, dtype=torch.bool, device=x.device).tril(shape[1] - shape[0])
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return x + self.proj(attended).permute(0, 4, 3, 1, 2)


class SpaceTimeAttention(nn.Module):
    """Attention of every frame over its pixels, then of every pixel along time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.space = AttentionBlock(channels, norm_groups=1)
        self.time = TimeAttention(channels)

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        return self.time(as_clips(self.space(as_frames(x)), len(x)), carry)


class Resample(nn.Module):
    """What halving and doubling have in common: a convolution within frames, one along time, where these change, and one of single pixels."""

    def __init__(self, channels: int, how: Resampling, *, step: int, padding: tuple[int, int]) -> None:
        super().__init__()
        space = CausalConv3d(channels, channels, WITHIN_FRAMES, stride=(1, step, step), padding=padding)
        time = CausalConv3d(channels, channels, ALONG_TIME, stride=(step, 1, 1))
        self.space = space if "space" in how else None
        self.time = time if "time" in how else None
        self.mix = CausalConv3d(channels, channels, POINTWISE)


class Downsample(Resample):
    """A convolution with stride 2 beside a mean of 2, in space and then in time."""

    def __init__(self, channels: int, how: Resampling) -> None:
        super().__init__(channels, how, step=2, padding=(0, 0))

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T', H', W'); frames 1 + 2 n become 1 + n."""
        if self.space is not None:
            x = self.space(F.pad(x, (0, 1, 0, 1))) + as_clips(F.avg_pool2d(as_frames(x), 2), len(x))
        if self.time is not None:
            pairs = preceded(x, 1, "replicate", layer=self, carry=carry, kept=0)
            x = self.time(x, carry) + pairs.unflatten(2, (-1, 2)).mean(dim=3)
        return self.mix(x)


class Upsample(Resample):
    """Every frame but the first twice, and every pixel 2 x 2 times, each with a convolution that is added."""

    def __init__(self, channels: int, how: Resampling) -> None:
        super().__init__(channels, how, step=1, padding=(1, 1))

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T', H', W'); frames 1 + n become 1 + 2 n."""
        if self.time is not None:
            x = trimmed(x.repeat_interleave(2, dim=2), 1, layer=self, carry=carry)
            x = x + self.time(x, carry)
        if self.space is not None:
            x = x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
            x = x + self.space(x)
        return self.mix(x)


class Level(nn.Module):
    """Residual blocks, each with attention behind it where the level has it, and a change of resolution behind all where there is one."""

    def __init__(self, in_channels: int, out_channels: int, *, num_blocks: int, attends: bool, resample: Resample | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(out_channels if number else in_channels, out_channels) for number in range(num_blocks))
        self.attention = nn.ModuleList(SpaceTimeAttention(out_channels) for _ in range(num_blocks if attends else 0))
        self.resample = resample

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        for number, block in enumerate(self.blocks):
            x = block(x, carry)
            if self.attention:
                x = self.attention[number](x, carry)
        return x if self.resample is None else self.resample(x, carry)


class Middle(nn.ModuleList):
    """A residual block, attention, a residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__([ResBlock(channels, channels), SpaceTimeAttention(channels), ResBlock(channels, channels)])

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        for module in self:
            x = module(x, carry)
        return x


class CosmosEncoder(nn.Module):
    """Wavelets of patches, levels from fine to coarse, the middle, and latents."""

    def __init__(self, config: CosmosNetConfig, patches: Patches) -> None:
        super().__init__()
        widths = config.widths
        self.patches = patches
        self.conv_in = FactorizedConv(patches.channels(axes=3), config.channels)
        self.levels = nn.ModuleList(
            Level(
                before,
                width,
                num_blocks=config.num_res_blocks,
                attends=level in config.attention_levels,
                resample=None if how == "none" else Downsample(width, how),
            )
            for level, (before, width, how) in enumerate(zip((config.channels, *widths[:-1]), widths, (*config.resampling, "none"), strict=True))
        )
        self.mid = Middle(widths[-1])
        self.norm_out = FrameNorm(widths[-1])
        self.conv_out = FactorizedConv(widths[-1], config.latent_channels)

    def forward(self, clips: Tensor, carry: Carry) -> Tensor:
        """(B, 3, T, H, W) in [-1, 1] -> (B, latent_channels, t, h, w)."""
        x = self.conv_in(self.to_patches(clips, carry), carry)
        for level in self.levels:
            x = level(x, carry)
        return self.conv_out(silu(self.norm_out(self.mid(x, carry))), carry)

    def to_patches(self, clips: Tensor, carry: Carry) -> Tensor:
        """(B, 3, T, H, W) -> (B, channels, t, h, w): the first frame is a patch by itself, repeated."""
        return self.patches.of(preceded(clips, self.patches.size - 1, "replicate", layer=self, carry=carry, kept=0))


class CosmosDecoder(nn.Module):
    """The middle, levels from coarse to fine, and the inverse wavelets."""

    def __init__(self, config: CosmosNetConfig, patches: Patches) -> None:
        super().__init__()
        widths = config.widths
        self.patches = patches
        self.conv_in = FactorizedConv(config.latent_channels, widths[-1])
        self.mid = Middle(widths[-1])
        self.levels = nn.ModuleList(
            Level(
                before,
                width,
                num_blocks=config.num_res_blocks,
                attends=level in config.attention_levels,
                resample=None if how == "none" else Upsample(width, how),
            )
            for level, (before, width, how) in enumerate(zip((*widths[1:], widths[-1]), widths, ("none", *config.resampling), strict=True))
        )
        self.norm_out = FrameNorm(widths[0])
        self.conv_out = FactorizedConv(widths[0], patches.channels(axes=3))

    def forward(self, latents: Tensor, carry: Carry) -> Tensor:
        """(B, latent_channels, t, h, w) -> (B, 3, T, H, W), nominally in [-1, 1]."""
        x = self.mid(self.conv_in(latents, carry), carry)
        for level in reversed(self.levels):
            x = level(x, carry)
        x = self.conv_out(silu(self.norm_out(x)), carry)
        return trimmed(self.patches.inverse(x), self.patches.size - 1, layer=self, carry=carry)
