"""The Llama-style block of autoregressive token generators: RMSNorm, packed attention without biases, SwiGLU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.layers.block import Block
from visiontok.layers.kv_cache import KVCache
from visiontok.layers.modulation import modulate
from visiontok.layers.norms import RMSNorm
from visiontok.layers.rope import apply_rope


class LlamaAttention(nn.Module):
    """Self-attention whose positions, mask and memory are given by the caller.

    Args:
        dim: model dimension D.
        num_heads: query heads; must divide `dim`.
        num_kv_heads: key-value heads; must divide `num_heads`.
        dropout: of the attention probabilities, in training.
        residual_dropout: of the output, in training.
    """

    def __init__(self, dim: int, num_heads: int, *, num_kv_heads: int, dropout: float, residual_dropout: float) -> None:
        super().__init__()
        if dim % num_heads or num_heads % num_kv_heads:
            raise ValueError(f"num_heads {num_heads} must divide dim {dim}, and num_kv_heads {num_kv_heads} must divide num_heads")
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, dim // num_heads
        self.dropout = dropout
        self.wqkv = nn.Linear(dim, (num_heads + 2 * num_kv_heads) * self.head_dim, bias=False)
        self.wo = nn.Linear(dim, dim, bias=False)
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
        num_kv_heads: key-value heads; None for as many as query heads.
        hidden_dim: dim of the feed-forward part, see `swiglu_dim`.
        norm_eps: of both norms.
        attention_dropout, residual_dropout, ffn_dropout: of the attention probabilities, after the attention, after the feed-forward part.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        hidden_dim: int,
        num_kv_heads: int | None = None,
        norm_eps: float = 1e-5,
        attention_dropout: float = 0.0,
        residual_dropout: float = 0.0,
        ffn_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = LlamaAttention(
            dim, num_heads, num_kv_heads=num_kv_heads or num_heads, dropout=attention_dropout, residual_dropout=residual_dropout
        )
        self.feed_forward = SwiGLU(dim, hidden_dim, dropout=ffn_dropout)
        self.attention_norm = RMSNorm(dim, eps=norm_eps)
        self.ffn_norm = RMSNorm(dim, eps=norm_eps)

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
