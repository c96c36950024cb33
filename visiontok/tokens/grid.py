"""Layouts that tokenizers and their generators share: a grid of positions, as large as the signal asks for, and a sequence of latents."""

from __future__ import annotations

from visiontok.tokens.layout import Segment, TokenLayout


def grid_layout(
    shape: tuple[int, ...], *, stride: int | tuple[int, ...], vocab_size: int | tuple[int, ...] | None = None, channels: int | None = None
) -> TokenLayout:
    """A grid of any shape, given at one: (h, w) for images, (t, h, w) for clips.

    Args:
        shape: positions along each axis.
        stride: units of the signal per position, one number for all axes or one for each.
        vocab_size: of the codes; with several sizes, a position has one token of each.
        channels: of continuous latents, instead.
    """
    strides = (stride,) * len(shape) if isinstance(stride, int) else stride
    grid = Segment(
        name="grid",
        shape=shape,
        vocab_size=vocab_size,
        codebooks=len(vocab_size) if isinstance(vocab_size, tuple) else 1,
        channels=channels,
        stride=strides,
        free_axes=tuple(range(len(shape))),
    )
    signal_shape = tuple(positions * step for positions, step in zip(shape, strides, strict=True))
    return TokenLayout(modality="image" if len(shape) == 2 else "video", segments=(grid,), signal_shape=signal_shape)


def latents_layout(length: int, *, vocab_size: int, signal_shape: tuple[int, ...]) -> TokenLayout:
    """A sequence without spatial meaning, as latent queries write it: (H, W) of an image or (T, H, W) of a clip.

    Args:
        length: tokens per sample.
        vocab_size: of the codes.
        signal_shape: what a sample covers.
    """
    segment = Segment(name="latents", shape=(length,), vocab_size=vocab_size)
    return TokenLayout(modality="image" if len(signal_shape) == 2 else "video", segments=(segment,), signal_shape=signal_shape)
