"""The causal transformer of streaming audio codecs (Défossez et al. 2024, arXiv 2410.00037): rotary positions, a window, learned scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from visiontok.layers.block import Block
from visiontok.layers.carry import Carry, CarryingLayer
from visiontok.layers.local_attention import attend_in_blocks, recent
from visiontok.layers.rope import apply_rope, rope_table


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

    def forward(self, x: Tensor, rope: Tensor | None, carry: Carry | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D); `rope` as of `apply_rope`, None for no rotation. The carry keeps the keys and values of the window."""
        packed = self.qkv(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        query, key, value = packed.split([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=1)
        if rope is not None:
            query, key = apply_rope(query, rope), apply_rope(key, rope)
        if carry is not None:
            key, value = (torch.cat(parts, dim=2) for parts in zip(carry.get(self) or (key[:, :, :0], value[:, :, :0]), (key, value), strict=True))
            seen = min(key.shape[2], self.window - 1)
            carry.keep(self, tuple(part[:, :, part.shape[2] - seen :].clone() for part in (key, value)))
        before = key.shape[2] - x.shape[1]
        attended = attend_in_blocks(pad(query, (0, 0, before, 0)), key, value, recent(self.window, x.device))[:, :, before:]
        result: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return result


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

    def forward(self, x: Tensor, rope: Tensor | None, carry: Carry | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        attended = self.attn(self.norm1(x), rope, carry)
        x = x + (attended if self.scale1 is None else self.scale1 * attended)
        hidden = self.mlp(self.norm2(x))
        result: Tensor = x + (hidden if self.scale2 is None else self.scale2 * hidden)
        return result


class CausalTransformer(CarryingLayer):
    """Blocks over frames (B, L, D) -> (B, L, D), without a norm behind them.

    Args:
        blocks: all of one head dim.
        rope_base: of the rotary positions; None for none.
    """

    def __init__(self, blocks: Sequence[ScaledBlock], *, rope_base: float | None) -> None:
        super().__init__()
        self.blocks, self.rope_base, self.head_dim = nn.ModuleList(blocks), rope_base, blocks[0].attn.head_dim

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        rope = None
        if self.rope_base is not None:
            rope = rope_table(positions(x.shape[1], layer=self, carry=carry).to(x.device)[:, None], self.head_dim, base=self.rope_base)
        for block in self.blocks:
            x = block(x, rope, carry)
        return x


def positions(count: int, *, layer: nn.Module, carry: Carry | None) -> Tensor:
    """(count,) int64: those of the next frames of a sequence, which the carry counts for the layer."""
    first = 0 if carry is None else carry.get(layer) or 0
    if carry is not None:
        carry.keep(layer, first + count)
    return torch.arange(first, first + count)
