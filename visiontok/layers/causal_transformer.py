"""The causal transformer of streaming audio codecs (Défossez et al. 2024, arXiv 2410.00037): rotary positions, a window, learned scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from visiontok.layers.block import Block
from visiontok.layers.local_attention import attend_in_blocks, recent
from visiontok.layers.rope import apply_rope, grid_positions, rope_table


class WindowAttention(nn.Module):
    """Self-attention to the last frames, without biases.

    Args:
        dim: model dimension D.
        num_heads: query heads.
        window: frames that a frame sees, its own included.
        num_kv_heads: key-value heads; a divisor of `num_heads`.
        head_dim: of every head.
    """

    def __init__(self, dim: int, num_heads: int, *, window: int, num_kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim, self.window = num_heads, num_kv_heads, head_dim, window
        self.qkv = nn.Linear(dim, (num_heads + 2 * num_kv_heads) * head_dim, bias=False)
        self.proj = nn.Linear(num_heads * head_dim, dim, bias=False)

    def forward(self, x: Tensor, rope: Tensor | None) -> Tensor:
        """(B, L, D) -> (B, L, D); `rope` as of `apply_rope`, None for no rotation."""
        packed = self.qkv(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        query, key, value = packed.split([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=1)
        if rope is not None:
            query, key = apply_rope(query, rope), apply_rope(key, rope)
        attended: Tensor = self.proj(attend_in_blocks(query, key, value, recent(self.window, x.device)).transpose(1, 2).flatten(2))
        return attended


class ScaledBlock(Block):
    """`x += scale1 * attn(norm1(x)); x += scale2 * mlp(norm2(x))`.

    Args:
        dim: model dimension D.
        attn: of (B, L, D) and rotations.
        norms: of the two branches.
        mlp: (B, L, D) -> (B, L, D).
        layer_scale: of every channel at first; None for no scales.
    """

    def __init__(self, dim: int, *, attn: WindowAttention, norms: Sequence[nn.Module], mlp: nn.Module, layer_scale: float | None) -> None:
        super().__init__()
        self.norm1, self.norm2 = norms
        self.attn, self.mlp = attn, mlp
        scales = [None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale)) for _ in norms]
        self.scale1, self.scale2 = scales

    def forward(self, x: Tensor, rope: Tensor | None) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        attended = self.attn(self.norm1(x), rope)
        x = x + (attended if self.scale1 is None else self.scale1 * attended)
        hidden = self.mlp(self.norm2(x))
        result: Tensor = x + (hidden if self.scale2 is None else self.scale2 * hidden)
        return result


class CausalTransformer(nn.Module):
    """Blocks over frames (B, L, D) -> (B, L, D), without a norm behind them.

    Args:
        blocks: all of one head dim.
        rope_base: of the rotary positions; None for none.
    """

    def __init__(self, blocks: Sequence[ScaledBlock], *, rope_base: float | None) -> None:
        super().__init__()
        self.blocks, self.rope_base, self.head_dim = nn.ModuleList(blocks), rope_base, blocks[0].attn.head_dim

    def forward(self, x: Tensor) -> Tensor:
        rope = None
        if self.rope_base is not None:
            rope = rope_table(grid_positions((x.shape[1],)).to(x.device), self.head_dim, base=self.rope_base)
        for block in self.blocks:
            x = block(x, rope)
        return x
