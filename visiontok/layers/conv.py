"""The VQGAN family of convolutional nets: its configuration and the blocks that encoder and decoder share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.layers.activations import silu
from visiontok.layers.attention import SelfAttention
from visiontok.layers.resampling import Downsampling, Upsampling

Shortcut = Literal["input", "output"]


class ConvNetConfig(Config):
    """Sizes and options of a convolutional encoder or decoder, or of two that mirror each other. Level 0 is the full resolution.

    The defaults are those of MaskGIT's VQGAN (Chang et al. 2022).

    Attributes:
        channels: at full resolution.
        channel_mult: channels of each level as a multiple of `channels`, full resolution first.
        num_res_blocks: residual blocks per level.
        latent_channels: channels at the narrow end.
        num_halvings: halvings behind the first levels, and doublings behind the last ones, which a decoder runs first; None for one between any two.
        shortcut: see `ResBlock`.
        norm_groups: of every GroupNorm; each group loses its mean and scale, so narrow nets need few of them to keep brightness and contrast.
        bias: whether the residual blocks' and the encoder's first convolution have one; all others always do.
        mid: the blocks between the levels and the narrow end: "residual" ones, or a residual block, "attention" and a residual block.
        num_mid_blocks: residual blocks of a "residual" middle; None for as many as a level has.
        attention_levels: levels with attention after every residual block.
        downsample: how an encoder halves.
        upsample: how a decoder doubles.
        latent_kernel: size of an encoder's last convolution.
        last_activation: whether there is a swish between the last norm and the last convolution.
        norm_latents: whether a decoder begins with a norm of its latents.
        adaptive_norm: whether the latents modulate a decoder before each level; see `AdaptiveGroupNorm`.
    """

    channels: Positive = 128
    channel_mult: tuple[int, ...] = Field(default=(1, 1, 2, 2, 4), min_length=1)
    num_res_blocks: Positive = 2
    latent_channels: Positive = 256
    num_halvings: Annotated[int, Field(ge=0)] | None = None
    shortcut: Shortcut = "output"
    norm_groups: Positive = 32
    bias: bool = False
    mid: Literal["residual", "attention"] = "residual"
    num_mid_blocks: Positive | None = None
    attention_levels: tuple[int, ...] = ()
    downsample: Downsampling = "mean"
    upsample: Upsampling = "nearest"
    latent_kernel: Literal[1, 3] = 1
    last_activation: bool = True
    norm_latents: bool = False
    adaptive_norm: bool = False

    @model_validator(mode="after")
    def _check(self) -> ConvNetConfig:
        normed = (*self.widths, *([self.latent_channels] if self.norm_latents else []))
        for width in normed:
            if width % self.norm_groups:
                raise ValueError(f"norm_groups {self.norm_groups} do not divide {width} channels")
        levels = len(self.channel_mult)
        for level in self.attention_levels:
            if not 0 <= level < levels:
                raise ValueError(f"attention_levels names level {level}; channel_mult {self.channel_mult} makes levels 0 to {levels - 1}")
        if self.halvings > levels:
            raise ValueError(f"num_halvings {self.num_halvings} are more than the {levels} levels of channel_mult {self.channel_mult}")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.channels * mult for mult in self.channel_mult)

    @property
    def halvings(self) -> int:
        return len(self.channel_mult) - 1 if self.num_halvings is None else self.num_halvings

    @property
    def stride(self) -> int:
        return int(2**self.halvings)


class TamingNetConfig(ConvNetConfig):
    """The same with the defaults of the first VQGAN (Esser et al. 2021), which most later tokenizers and KL autoencoders keep."""

    shortcut: Shortcut = "input"
    bias: bool = True
    mid: Literal["residual", "attention"] = "attention"
    downsample: Downsampling = "padded_conv"
    latent_kernel: Literal[1, 3] = 3


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """GroupNorm with eps 1e-6, as everywhere in this family."""
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResBlock(nn.Module):
    """Norm, swish, 3x3 convolution, twice, and a shortcut.

    Args:
        in_channels, out_channels: widths.
        bias: of the convolutions.
        shortcut: what the 1x1 convolution of a block that changes its channels reads. "input" is the usual residual. "output" is MaskGIT's: the
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


class AttentionBlock(nn.Module):
    """Norm and one head of attention over all positions, added to the input."""

    def __init__(self, channels: int, *, norm_groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, norm_groups)
        self.attn = SelfAttention(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        batch, channels, height, width = x.shape
        positions = self.norm(x).permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        return x + self.attn(positions).view(batch, height, width, channels).permute(0, 3, 1, 2)


class ResLevel(nn.Module):
    """Residual blocks at one resolution, the first of which changes the number of channels, each followed by attention where the level has it."""

    def __init__(self, in_channels: int, out_channels: int, config: ConvNetConfig, *, level: int) -> None:
        super().__init__()
        self.blocks = res_blocks(in_channels, out_channels, config, count=config.num_res_blocks)
        has_attention = level in config.attention_levels
        self.attention = nn.ModuleList(AttentionBlock(out_channels, norm_groups=config.norm_groups) for _ in self.blocks if has_attention)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H, W)."""
        if not self.attention:
            return self.blocks(x)
        for block, attention in zip(self.blocks, self.attention, strict=True):
            x = attention(block(x))
        return x


def res_blocks(in_channels: int, out_channels: int, config: ConvNetConfig, *, count: int) -> nn.Sequential:
    """`count` residual blocks; the first changes the number of channels."""
    widths = [in_channels] + [out_channels] * (count - 1)
    return nn.Sequential(*(_res_block(width, out_channels, config) for width in widths))


def mid_blocks(channels: int, config: ConvNetConfig) -> nn.Sequential:
    """The middle of the net, at the lowest resolution."""
    if config.mid == "residual":
        return res_blocks(channels, channels, config, count=config.num_mid_blocks or config.num_res_blocks)
    attention = AttentionBlock(channels, norm_groups=config.norm_groups)
    return nn.Sequential(_res_block(channels, channels, config), attention, _res_block(channels, channels, config))


def _res_block(in_channels: int, out_channels: int, config: ConvNetConfig) -> ResBlock:
    return ResBlock(in_channels, out_channels, bias=config.bias, shortcut=config.shortcut, norm_groups=config.norm_groups)
