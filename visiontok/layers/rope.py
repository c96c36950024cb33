"""Rotary position embedding (arXiv 2104.09864) over grids of any number of axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def grid_positions(shape: Sequence[int]) -> Tensor:
    """(N, A) int64: the row-major positions of a grid with A axes."""
    return torch.cartesian_prod(*(torch.arange(size, dtype=torch.int64) for size in shape)).view(-1, len(shape))


def rope_table(positions: Tensor, head_dim: int, *, base: float = 10000.0, zero_rows: int = 0) -> Tensor:
    """Cosines and sines for `apply_rope`: (zero_rows + N, head_dim / 2, 2) float32.

    The pairs of a head are divided evenly among the axes; within an axis with d / 2 pairs, pair j turns by position * base ** (-2 j / d).

    Args:
        positions: (N, A), one coordinate per axis.
        head_dim: dim of a head; must be a multiple of 2 A.
        base: of the geometric series of frequencies.
        zero_rows: rows of zeros before the first position. They are not identities: a query or key turned by one vanishes, so that every
            score with it is 0. Llama-style image generators treat their condition tokens so.

    Raises:
        ValueError: if the axes do not divide the head.
    """
    axes = positions.shape[1]
    if head_dim % (2 * axes):
        raise ValueError(f"rotary positions over {axes} axes need a head dim that is a multiple of {2 * axes}, got {head_dim}")
    per_axis = head_dim // axes
    frequencies = 1.0 / base ** (torch.arange(0, per_axis, 2, dtype=torch.float32, device=positions.device) / per_axis)
    angles = (positions[:, :, None] * frequencies).flatten(1)
    rows = torch.stack([angles.cos(), angles.sin()], dim=-1)
    return torch.cat([rows.new_zeros(zero_rows, *rows.shape[1:]), rows])


def apply_rope(x: Tensor, rows: Tensor) -> Tensor:
    """Rotate neighboring pairs of every head by its row, in float32, cast back.

    Args:
        x: (B, H, T, head_dim) queries or keys.
        rows: (T, head_dim / 2, 2) rows of a `rope_table`, or (B or 1, 1, T, head_dim / 2, 2) where samples differ.
    """
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rows.unbind(-1)
    return torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2).type_as(x)


def pairs_of_halves(weight: Tensor, head_dim: int) -> Tensor:
    """Rows (H * head_dim, D) of queries or keys whose first half of a head turns with its second -> rows whose neighbors turn together."""
    return weight.unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2)


def halves_of_pairs(weight: Tensor, head_dim: int) -> Tensor:
    """The inverse of `pairs_of_halves`."""
    return weight.unflatten(0, (-1, head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)
