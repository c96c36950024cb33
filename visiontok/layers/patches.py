"""Between a grid of features and a sequence of its patches, or a smaller grid of them, and where the patches lie."""

from __future__ import annotations

import torch
from torch import Tensor


def patchify(grid: Tensor, size: int) -> Tensor:
    """(B, H, W, C) -> (B, H/size * W/size, size * size * C): patches row by row, within a patch (row, column, channel)."""
    rows = grid.unflatten(2, (-1, size)).unflatten(1, (-1, size))
    return rows.transpose(2, 3).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, size: int) -> Tensor:
    """The inverse of `patchify`, of patches on their grid: (B, h, w, size * size * C) -> (B, h * size, w * size, C)."""
    return patches.unflatten(3, (size, size, -1)).transpose(2, 3).flatten(3, 4).flatten(1, 2)


def space_to_depth(x: Tensor, size: int) -> Tensor:
    """(B, C, *axes) -> (B, C * size ** A, *axes / size) along all A axes: channels (c, first axis, second axis, ...), as `torch.pixel_unshuffle`."""
    axes = x.ndim - 2
    for axis in range(axes):
        x = x.unflatten(2 + 2 * axis, (-1, size))
    return x.permute(0, 1, *range(3, 3 + 2 * axes, 2), *range(2, 2 + 2 * axes, 2)).flatten(1, 1 + axes)


def depth_to_space(x: Tensor, size: int) -> Tensor:
    """The inverse of `space_to_depth`, as `torch.pixel_shuffle`."""
    axes = x.ndim - 2
    x = x.unflatten(1, (-1, *(size,) * axes))
    x = x.permute(0, 1, *(part for axis in range(axes) for part in (2 + axes + axis, 2 + axis)))
    for axis in range(axes):
        x = x.flatten(2 + axis, 3 + axis)
    return x


def sincos_positions(height: int, width: int, dim: int, *, period: float = 10_000.0) -> Tensor:
    """Fixed positions (height * width, dim), row by row: sines and cosines of the row in the first half of the channels, of the column in the second.

    Raises:
        ValueError: if `dim` is no multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"fixed positions need a dim that is a multiple of 4, got {dim}")
    frequencies = period ** -(torch.arange(dim // 4, dtype=torch.float32) / (dim // 4))
    rows, columns = (torch.arange(count, dtype=torch.float32)[:, None] * frequencies for count in (height, width))
    of_row, of_column = (torch.cat([angles.sin(), angles.cos()], dim=1) for angles in (rows, columns))
    return torch.cat([of_row.repeat_interleave(width, dim=0), of_column.repeat(height, 1)], dim=1)


def sincos(count: int, dim: int, *, period: float = 10_000.0) -> Tensor:
    """(count, dim) float64: sines of the position at dim / 2 frequencies, then cosines."""
    frequencies = period ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))
    angles = torch.arange(count, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def clip_positions(grid: tuple[int, int, int], dim: int) -> Tensor:
    """Fixed positions (t * h * w, dim) float32 of the patches of clips, t, h and w in turn: sines and cosines of the column in the first half of the
    channels, of the row in the second, plus those of the time over all channels. `dim` is a multiple of 4."""
    time, height, width = grid
    of_row, of_column = sincos(height, dim // 2), sincos(width, dim // 2)
    in_frame = torch.cat([of_column.repeat(height, 1), of_row.repeat_interleave(width, dim=0)], dim=1)
    table = in_frame.repeat(time, 1) + sincos(time, dim).repeat_interleave(height * width, dim=0)
    return table.to(torch.float32)
