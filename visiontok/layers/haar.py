"""The Haar wavelet transform of images and clips, scaled so that the low band is a mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def haar(x: Tensor, axes: Sequence[int], *, levels: int = 1) -> Tensor:
    """(B, C, ...) -> (B, C * 2 ** (levels * len(axes)), ...), every axis shorter by 2 ** levels.

    Each level takes the means (a + b) / 2 and half differences (a - b) / 2 of neighbors along every axis, of all channels of the level before. The
    bands are ordered by the axes in turn, low before high; a band has the channels in their order.

    Args:
        x: with sizes that are multiples of 2 ** levels along the axes.
        axes: which are transformed; (2, 3, 4) of a clip are time, height and width.
        levels: how often.
    """
    for _ in range(levels):
        bands = [x]
        for axis in axes:
            bands = [half for band in bands for half in _analyzed(band, axis)]
        x = torch.cat(bands, dim=1)
    return x


def inverse_haar(x: Tensor, axes: Sequence[int], *, levels: int = 1) -> Tensor:
    """The inverse of `haar`: (B, C * 2 ** (levels * len(axes)), ...) -> (B, C, ...)."""
    for _ in range(levels):
        bands = list(x.chunk(2 ** len(axes), dim=1))
        for axis in reversed(axes):
            bands = [_synthesized(low, high, axis) for low, high in zip(bands[::2], bands[1::2], strict=True)]
        (x,) = bands
    return x


def _analyzed(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    first, second = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
    return (first + second) / 2, (first - second) / 2


def _synthesized(low: Tensor, high: Tensor, axis: int) -> Tensor:
    return torch.stack([low + high, low - high], dim=axis + 1).flatten(axis, axis + 1)
