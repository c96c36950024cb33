"""The layout that convolutional tokenizers of images share: a grid of positions."""

from __future__ import annotations

from visiontok.tokens import Segment, TokenLayout


def grid_layout(shape: tuple[int, ...], *, stride: int, vocab_size: int | tuple[int, ...]) -> TokenLayout:
    """A grid of `shape` positions for an image of `shape` times the stride; with several vocabulary sizes, a position has one id of each."""
    codebooks = len(vocab_size) if isinstance(vocab_size, tuple) else 1
    grid = Segment(name="grid", shape=shape, vocab_size=vocab_size, codebooks=codebooks, stride=(stride, stride))
    return TokenLayout(modality="image", segments=(grid,), signal_shape=tuple(side * stride for side in shape))
