"""The block of autoregressive token generators, and the parts that make it Llama's: packed attention without biases, and SwiGLU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.layers.block import Block
from visiontok.layers.kv_cache import KVCache
from visiontok.layers.modulation import modulate
from visiontok.layers.rope import apply_rope


class LlamaAttention(nn.Module):
    """Self-attention whose positions, mask and memory are given by the caller.

    Args:
        dim: model dimension D.
        num_heads: query heads; must divide `dim`.
        num_kv_heads: key-value heads; must divide `num_heads`.
        bias: of both linear maps.
        dropout: of the attention probabilities, in training.
        residual_dropout: of the output, in training.
    """

    def __init__(self, dim: int, num_heads: int, *, num_kv_heads: int, bias: bool = False, dropout: float, residual_dropout: float) -> None:
        super().__init__()
        if dim % num_heads or num_heads % num_kv_heads:
            raise ValueError(f"num_heads {num_heads} must divide dim {dim}, and num_kv_heads {num_kv_heads} must divide num_heads")
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, dim // num_heads
        self.dropout = dropout
        self.wqkv = nn.Linear(dim, (num_heads + 2 * num_kv_heads) * self.head_dim, bias=bias)
        self.wo = nn.Linear(dim, dim, bias=bias)
        self.residual_dropout = nn.Dropout(residual_dropout)

    def forward(self, x: Tensor, *, rope: Tensor | None, mask: Tensor | None, is_causal: bool, cache: KVCache | None) -> Tensor:
        """(B, T, D) -> (B, T, D); the arguments are those of `LlamaBlock.forward`."""
        packed = self.wqkv(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        query, key, value = packed.split([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=1)
        if rope is not None:
            query, key = apply_rope(query, rope), apply_rope(key, rope)
        if cache is not None:
            key, value = cache.append(key, value)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=is_causal, dropout_p=dropout, enable_gqa=self.num_kv_heads != self.num_heads
        )
        return self.residual_dropout(self.wo(attended.transpose(1, 2).flatten(2)))


class SwiGLU(nn.Module):
    """`w2(silu(w1 x) * w3 x)` (arXiv 2002.05202), without biases.

    Args:
        dim: model dimension D.
        hidden_dim: dim between the matrices.
        dropout: of the output, in training.
    """

    def __init__(self, dim: int, hidden_dim: int, *, dropout: float) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden_dim, bias=False)
        self.w3 = nn.Linear(dim, hidden_dim, bias=False)
        self.w2 = nn.Linear(hidden_dim, dim, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.dropout(self.w2(F.silu(self.w1(x)) * self.w3(x)))


class LlamaBlock(Block):
    """`x += attention(norm(x)); x += feed_forward(norm(x))`.

    Args:
        dim: model dimension D.
        num_heads: query heads.
        norm: builds a norm from D.
        feed_forward: the feed-forward part, (..., D) -> (..., D).
        num_kv_heads: key-value heads; None for as many as query heads.
        bias: of the attention's linear maps.
        attention_dropout, residual_dropout: of the attention probabilities, after the attention.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        norm: Callable[[int], nn.Module],
        feed_forward: nn.Module,
        num_kv_heads: int | None = None,
        bias: bool = False,
        attention_dropout: float = 0.0,
        residual_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = LlamaAttention(
            dim, num_heads, num_kv_heads=num_kv_heads or num_heads, bias=bias, dropout=attention_dropout, residual_dropout=residual_dropout
        )
        self.feed_forward = feed_forward
        self.attention_norm = norm(dim)
        self.ffn_norm = norm(dim)

    def forward(
        self,
        x: Tensor,
        *,
        rope: Tensor | None = None,
        mask: Tensor | None = None,
        is_causal: bool = False,
        cache: KVCache | None = None,
        modulation: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D).

        Args:
            x: the new tokens of every sequence.
            rope: (T, head_dim / 2, 2) rows of a `rope_table` for these tokens, or (B or 1, 1, T, head_dim / 2, 2); None for no rotation.
            mask: (1 or B, 1, T, S) bool, True where a token may look; None for everywhere. S counts the cached tokens too.
            is_causal: let every token look at itself and those before it, without a mask; for sequences that begin with these tokens.
            cache: keys and values of the tokens before; the new ones are added to it.
            modulation: shift, scale and gate of the attention, then of the feed-forward part, (B, 1 or T, D) each; None for none.
        """
        if modulation is None:
            x = x + self.attention(self.attention_norm(x), rope=rope, mask=mask, is_causal=is_causal, cache=cache)
            return x + self.feed_forward(self.ffn_norm(x))
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation
        attended = self.attention(modulate(self.attention_norm(x), shift1, scale1), rope=rope, mask=mask, is_causal=is_causal, cache=cache)
        x = torch.addcmul(x, gate1, attended)
        return torch.addcmul(x, gate2, self.feed_forward(modulate(self.ffn_norm(x), shift2, scale2)))


def swiglu_dim(dim: int, multiple_of: int) -> int:
    """Two thirds of four times the dim, rounded up to a multiple: the hidden dim that keeps an MLP's parameter count."""
    return -(-int(8 * dim / 3) // multiple_of) * multiple_of
