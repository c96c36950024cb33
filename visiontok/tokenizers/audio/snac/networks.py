"""SNAC's encoder and decoder: DAC's with depthwise convolutions, attention within windows, and noise that the decoder shapes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from visiontok.base.noise import Noise
from visiontok.layers.llama import LlamaAttention
from visiontok.layers.residual import Residual
from visiontok.layers.rope import grid_positions, rope_table
from visiontok.layers.snake import Snake

HEAD_DIM = 64
"""Of the attention."""

DILATIONS = (1, 3, 9)
"""Of a stage's residual units."""


def residual_unit(channels: int, *, dilation: int, depthwise: bool) -> Residual:
    """A dilated and a pointwise convolution, each after a Snake, added to the input; (B, C, T) -> (B, C, T)."""
    groups = channels if depthwise else 1
    return Residual(
        Snake(channels),
        nn.Conv1d(channels, channels, 7, dilation=dilation, padding=3 * dilation, groups=groups),
        Snake(channels),
        nn.Conv1d(channels, channels, 1),
    )


class WindowAttention(nn.Module):
    """Attention within windows that follow each other without overlap, with rotary positions, added to the input.

    Args:
        dim: C, a multiple of 64.
        window: frames of one.
    """

    rope: Tensor

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        heads = dim // HEAD_DIM
        self.window = window
        self.norm = nn.LayerNorm(dim)
        self.attention = LlamaAttention(dim, heads, num_kv_heads=heads, dropout=0.0, residual_dropout=0.0)
        self.register_buffer("rope", rope_table(grid_positions((window,)), HEAD_DIM), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T); T is a multiple of the window."""
        windows = self.norm(x.transpose(1, 2)).unflatten(1, (-1, self.window)).flatten(0, 1)
        attended = self.attention(windows, rope=self.rope, mask=None, is_causal=False, cache=None)
        return x + attended.unflatten(0, (len(x), -1)).flatten(1, 2).transpose(1, 2)


class NoiseBlock(nn.Module):
    """Adds noise, the same for all channels of a time step, scaled by what a pointwise map reads from the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """(B, C, T) -> (B, C, T); without noise the input as it is."""
        if noise is None:
            return x
        result: Tensor = x + noise.normal(len(x), 1, x.shape[-1]).to(x) * self.linear(x)
        return result


class DecoderStage(nn.Sequential):
    """Upsampling by a stride with half as many channels after it, noise, and residual units."""

    def __init__(self, channels: int, stride: int, *, noise: bool, depthwise: bool) -> None:
        half = channels // 2
        super().__init__(
            Snake(channels),
            nn.ConvTranspose1d(channels, half, 2 * stride, stride=stride, padding=-(-stride // 2), output_padding=stride % 2),
            *([NoiseBlock(half)] if noise else []),
            *(residual_unit(half, dilation=dilation, depthwise=depthwise) for dilation in DILATIONS),
        )

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """(B, C, T) -> (B, C / 2, T * stride)."""
        for layer in self:
            x = layer(x, noise) if isinstance(layer, NoiseBlock) else layer(x)
        return x


class SnacEncoder(nn.Sequential):
    """Sound (B, 1, T) -> (B, C, T / hop), where C doubles with every stride.

    Args:
        dim: channels before the first stride.
        strides: of the stages.
        window: of the attention; None for none.
        depthwise: whether residual units and the last convolution are depthwise.
    """

    def __init__(self, dim: int, strides: Sequence[int], *, window: int | None, depthwise: bool) -> None:
        widths = [dim * 2**stage for stage in range(len(strides) + 1)]
        super().__init__(
            nn.Conv1d(1, dim, 7, padding=3),
            *(_encoder_stage(width, stride, depthwise=depthwise) for width, stride in zip(widths, strides, strict=False)),
            *([] if window is None else [WindowAttention(widths[-1], window)]),
            nn.Conv1d(widths[-1], widths[-1], 7, padding=3, groups=widths[-1] if depthwise else 1),
        )


class SnacDecoder(nn.Sequential):
    """Latents (B, D, frames) -> sound (B, 1, frames * hop) in [-1, 1].

    Args:
        latent_dim: D.
        dim: channels before the first stride; they halve with every stride.
        strides: of the stages.
        window: of the attention; None for none.
        noise: whether every stage has a `NoiseBlock`.
        depthwise: whether residual units and the first convolution are depthwise.
    """

    def __init__(self, latent_dim: int, dim: int, strides: Sequence[int], *, window: int | None, noise: bool, depthwise: bool) -> None:
        first = [nn.Conv1d(latent_dim, dim, 7, padding=3)]
        if depthwise:
            first = [nn.Conv1d(latent_dim, latent_dim, 7, padding=3, groups=latent_dim), nn.Conv1d(latent_dim, dim, 1)]
        last = dim // 2 ** len(strides)
        super().__init__(
            *first,
            *([] if window is None else [WindowAttention(dim, window)]),
            *(DecoderStage(dim // 2**stage, stride, noise=noise, depthwise=depthwise) for stage, stride in enumerate(strides)),
            Snake(last),
            nn.Conv1d(last, 1, 7, padding=3),
            nn.Tanh(),
        )

    def forward(self, latents: Tensor, noise: Noise | None = None) -> Tensor:
        """Noise is drawn stage after stage as (B, 1, T); None for none."""
        x = latents
        for layer in self:
            x = layer(x, noise) if isinstance(layer, DecoderStage) else layer(x)
        return x


def _encoder_stage(channels: int, stride: int, *, depthwise: bool) -> nn.Sequential:
    """Residual units, and a convolution to twice the channels at 1 / stride of the rate."""
    return nn.Sequential(
        *(residual_unit(channels, dilation=dilation, depthwise=depthwise) for dilation in DILATIONS),
        Snake(channels),
        nn.Conv1d(channels, 2 * channels, 2 * stride, stride=stride, padding=-(-stride // 2)),
    )
