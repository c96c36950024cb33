"""Causal transformer blocks that a condition modulates, with a condition of its own for every element or every run of elements.

The two generators that are built from them (RAR, arXiv 2411.00776; xAR, arXiv 2502.20388) differ in norms, positions and feed-forward parts, which
are given to the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.layers.block import Block
from visiontok.layers.kv_cache import KVCache
from visiontok.layers.modulation import Modulation, modulate
from visiontok.layers.rope import apply_rope


class CausalAttention(nn.Module):
    """Self-attention with biases, whose positions, mask and memory are given by the caller.

    Args:
        dim: model dimension D.
        num_heads: heads; must divide `dim`.
        qk_norm: builds the norms of every head's queries and keys from the head dim; None for no such norms.
        dropout: of the attention probabilities, in training.
        residual_dropout: of the output, in training.
    """

    def __init__(self, dim: int, num_heads: int, *, qk_norm: Callable[[int], nn.Module] | None, dropout: float, residual_dropout: float) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads {num_heads} does not divide dim {dim}")
        self.num_heads, self.head_dim, self.dropout = num_heads, dim // num_heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.q_norm = None if qk_norm is None else qk_norm(self.head_dim)
        self.k_norm = None if qk_norm is None else qk_norm(self.head_dim)
        self.residual_dropout = nn.Dropout(residual_dropout)

    def forward(self, x: Tensor, *, rope: Tensor | None, mask: Tensor | None, is_causal: bool, cache: KVCache | None) -> Tensor:
        """(B, T, D) -> (B, T, D); the arguments are those of `ModulatedCausalBlock.forward`."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        if rope is not None:
            query, key = apply_rope(query, rope), apply_rope(key, rope)
        if cache is not None:
            key, value = cache.append(key, value)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal, dropout_p=dropout)
        return self.residual_dropout(self.proj(attended.transpose(1, 2).flatten(2)))

    def new_cache(self, batch: int, length: int) -> KVCache:
        """An empty cache for so many sequences of so many elements."""
        weight = self.proj.weight
        return KVCache(batch, self.num_heads, length, self.head_dim, device=weight.device, dtype=weight.dtype)


class ModulatedCausalBlock(Block):
    """`x += gate * attn(norm(x) * (1 + scale) + shift)`, and the same with a feed-forward part.

    Args:
        dim: model dimension D.
        num_heads: attention heads.
        norm: builds a norm from D.
        mlp: the feed-forward part.
        qk_norm, attention_dropout, residual_dropout: see `CausalAttention`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        norm: Callable[[int], nn.Module],
        mlp: nn.Module,
        qk_norm: Callable[[int], nn.Module] | None = None,
        attention_dropout: float = 0.0,
        residual_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = norm(dim)
        self.attn = CausalAttention(dim, num_heads, qk_norm=qk_norm, dropout=attention_dropout, residual_dropout=residual_dropout)
        self.norm2 = norm(dim)
        self.mlp = mlp
        self.modulation = Modulation(dim, parts=6)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        *,
        rope: Tensor | None = None,
        mask: Tensor | None = None,
        is_causal: bool = False,
        cache: KVCache | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D).

        Args:
            x: the new elements of every sequence.
            condition: (B, N, D): of N runs of T / N elements each, one run after the other.
            rope: (T, head_dim / 2, 2) rows of a `rope_table` for these elements; None for no rotation.
            mask: broadcastable to (B, 1, T, S) bool, True where an element may look; None for everywhere. S counts the cached elements too.
            is_causal: let every element look at itself and those before it, without a mask; for sequences that begin with these elements.
            cache: keys and values of the elements before; the new ones are added to it.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation.of_runs(condition, x.shape[1] // condition.shape[1])
        attended = self.attn(modulate(self.norm1(x), shift1, scale1), rope=rope, mask=mask, is_causal=is_causal, cache=cache)
        x = torch.addcmul(x, gate1, attended)
        return torch.addcmul(x, gate2, self.mlp(modulate(self.norm2(x), shift2, scale2)))


class ModulatedStack(nn.Module):
    """Blocks one after the other.

    Args:
        blocks: at least one.
    """

    def __init__(self, blocks: Iterable[ModulatedCausalBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        *,
        rope: Tensor | None = None,
        mask: Tensor | None = None,
        is_causal: bool = False,
        caches: Sequence[KVCache] = (),
    ) -> Tensor:
        """(B, T, D) -> (B, T, D); the arguments are those of `ModulatedCausalBlock.forward`, with one cache per block."""
        for number, block in enumerate(self.blocks):
            x = block(x, condition, rope=rope, mask=mask, is_causal=is_causal, cache=caches[number] if caches else None)
        return x

    def new_caches(self, batch: int, length: int) -> list[KVCache]:
        """Empty caches, one per block, for so many sequences of so many elements."""
        return [module.new_cache(batch, length) for module in self.modules() if isinstance(module, CausalAttention)]
