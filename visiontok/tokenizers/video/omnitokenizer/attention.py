"""Attention of OmniTokenizer: over a grid with unit queries and keys, and within windows of it; and what tells both where a position lies."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.layers.attention import SelfAttention
from visiontok.layers.patches import patchify, unpatchify
from visiontok.layers.rope import apply_rope, grid_positions, rope_table

SCALE = 8.0
"""Of the products of unit queries and keys."""

Grid = tuple[int, ...]
"""Positions of a sequence along each of its axes: (h, w) within a frame, (t,) along time."""


class ScaledNorm(nn.Module):
    """A layer norm with a learned scale; its shift is a buffer, which training leaves at 0."""

    bias: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.register_buffer("bias", torch.zeros(dim, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias)


class ContinuousPositionBias(nn.Module):
    """What is added to the scores of a frame: an MLP of the logarithmic offset between two positions (Swin v2, arXiv 2111.09883)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2, dim), nn.LeakyReLU(0.1), nn.Linear(dim, dim), nn.LeakyReLU(0.1), nn.Linear(dim, num_heads))

    def forward(self, grid: Grid) -> Tensor:
        """(H, N, N) for the N positions of a grid (h, w)."""
        positions = grid_positions(grid).to(next(self.parameters()))
        offsets = positions[:, None] - positions
        scores: Tensor = self.mlp(offsets.sign() * (offsets.abs() + 1).log())
        return scores.permute(2, 0, 1)


class AlibiBias(nn.Module):
    """Linear penalties of distance along time (ALiBi, arXiv 2108.12409), and nothing of the future."""

    slopes: Tensor

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.register_buffer("slopes", alibi_slopes(num_heads), persistent=False)

    def forward(self, grid: Grid) -> Tensor:
        """(H, T, T) for a grid (T,)."""
        (length,) = grid
        steps = torch.arange(length, device=self.slopes.device)
        behind = steps[:, None] - steps
        return (-behind * self.slopes[:, None, None]).masked_fill(behind < 0, -torch.inf)


def alibi_slopes(num_heads: int) -> Tensor:
    """(H,) float32: 2^(-8 k / H) for powers of two; others take those of the power below, and every second one of the power above."""
    below = 2 ** math.floor(math.log2(num_heads))
    numbers = torch.arange(1, 2 * below + 1, dtype=torch.float64)
    slopes = torch.cat([-8 * numbers[:below], -4 * numbers[::2]])[:num_heads] / below
    return torch.exp2(slopes).to(torch.float32)


class GridAttention(nn.Module):
    """`softmax(8 q k^T) v` with unit queries and keys, scaled per channel. Queries read the normalized sequence, keys and values the sequence itself.

    Args:
        dim: model dimension D.
        num_heads: H.
        head_dim: of every head.
        is_rotary: turn queries and keys by column and row of their position, pair by pair in turn.
        bias: gives (H, N, N) for a grid; None for none.
        is_causal: whether a position sees those before it only, where no bias says so.
        dropout: of the probabilities, in training.
    """

    def __init__(self, dim: int, num_heads: int, *, head_dim: int, is_rotary: bool, bias: nn.Module | None, is_causal: bool, dropout: float) -> None:
        super().__init__()
        self.head_dim, self.is_rotary, self.is_causal, self.dropout = head_dim, is_rotary, is_causal, dropout
        self.norm = ScaledNorm(dim)
        self.query = nn.Linear(dim, num_heads * head_dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * num_heads * head_dim, bias=False)
        self.query_scale, self.key_scale = nn.Parameter(torch.ones(head_dim)), nn.Parameter(torch.ones(head_dim))
        self.proj = nn.Linear(num_heads * head_dim, dim, bias=False)
        self.bias = bias

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, N, D) -> (B, N, D); N positions of the grid, row by row."""
        query = self.query(self.norm(x)).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        key, value = self.key_value(x).unflatten(-1, (2, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        if self.is_rotary:
            rows = column_row_table(grid, self.head_dim).to(x.device)
            query, key = apply_rope(query, rows), apply_rope(key, rows)
        query, key = F.normalize(query, dim=-1) * self.query_scale, F.normalize(key, dim=-1) * self.key_scale
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if self.bias is None else self.bias(grid).to(query.dtype),
            is_causal=self.is_causal and self.bias is None,
            dropout_p=self.dropout if self.training else 0.0,
            scale=SCALE,
        )
        result: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return result


def column_row_table(grid: Grid, head_dim: int) -> Tensor:
    """Rows (N, head_dim / 2, 2) for `apply_rope`: even pairs turn by the column, odd pairs by the row, two neighbors equally fast."""
    blocks = rope_table(grid_positions(grid).flip(1), head_dim)
    return blocks.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


class WindowAttention(nn.Module):
    """Attention within square windows that tile a frame, with a learned score per head and offset.

    Args:
        dim: model dimension D.
        num_heads: H.
        window_size: side of a window; it divides the grid.
        dropout: of the probabilities, in training.
    """

    offsets: Tensor

    def __init__(self, dim: int, num_heads: int, *, window_size: int, dropout: float) -> None:
        super().__init__()
        self.window_size = window_size
        self.norm = ScaledNorm(dim)
        self.attn = SelfAttention(dim, num_heads, qkv_bias=False, dropout=dropout)
        reach = 2 * window_size - 1
        self.scores = nn.Parameter(nn.init.trunc_normal_(torch.empty(reach**2, num_heads), std=0.02))
        positions = grid_positions((window_size, window_size))
        apart = positions[:, None] - positions + window_size - 1
        self.register_buffer("offsets", apart[..., 0] * reach + apart[..., 1], persistent=False)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, h w, D) -> (B, h w, D)."""
        size, (height, width) = self.window_size, grid
        windows = patchify(self.norm(x).unflatten(1, grid), size).unflatten(2, (size**2, -1))
        attended = self.attn(windows.flatten(0, 1), self.scores[self.offsets].permute(2, 0, 1))
        tiles = attended.flatten(1).unflatten(0, (len(x), height // size, width // size))
        return unpatchify(tiles, size).flatten(1, 2)
