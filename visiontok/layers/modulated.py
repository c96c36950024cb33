"""Transformer blocks for flow and diffusion models: a condition shifts, scales and gates what they do (adaLN, Peebles & Xie 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.layers.attention import ALL, SelfAttention
from visiontok.layers.llama import SwiGLU


class Modulation(nn.Module):
    """Scales and shifts from the condition: a linear layer of its SiLU, zero at first, so that a new block is the identity.

    Args:
        dim: D of the condition and of what is modulated.
        parts: vectors that each modulated token gets.
        kinds: kinds of tokens in a sequence, each with vectors of its own.
    """

    def __init__(self, dim: int, *, parts: int, kinds: int = 1) -> None:
        super().__init__()
        self.parts, self.kinds = parts, kinds
        self.linear = nn.Linear(dim, kinds * parts * dim)
        self.start_at_zero()

    def start_at_zero(self) -> None:
        """Let the condition have no effect."""
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, condition: Tensor, counts: Sequence[int] = ()) -> tuple[Tensor, ...]:
        """`parts` tensors (B, L, D), or (B, 1, D) for tokens of one kind.

        Args:
            condition: (B, D); one row serves a whole batch.
            counts: tokens of each kind, one kind after the other, L in all; empty where there is one kind.
        """
        vectors = self.linear(F.silu(condition)).unflatten(-1, (self.kinds, self.parts, -1))
        if counts:  # whole rows are copied: a gather by kind is much slower
            vectors = torch.cat([rows.expand(-1, count, -1, -1) for rows, count in zip(vectors.split(1, dim=1), counts, strict=True)], dim=1)
        return vectors.unbind(dim=2)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`x * (1 + scale) + shift`."""
    return torch.addcmul(shift, x, 1 + scale)


class ModulatedBlock(nn.Module):
    """`x += gate * attn(norm(x) * (1 + scale) + shift)`, and the same with a SwiGLU; norms without weights, nothing with a bias.

    Args:
        dim: model dimension D.
        num_heads: attention heads.
        hidden_dim: dim inside the SwiGLU.
        attention_scale: of the attention's products; None for `head_dim ** -0.5`.
        kinds: kinds of tokens that are modulated apart; 0 for a block without modulation.
    """

    def __init__(self, dim: int, num_heads: int, *, hidden_dim: int, attention_scale: float | None = None, kinds: int = 0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.attn = SelfAttention(dim, num_heads, qkv_bias=False, proj_bias=False, qk_norm=True, scale=attention_scale)
        self.mlp = SwiGLU(dim, hidden_dim, dropout=0.0)
        self.modulation = Modulation(dim, parts=6, kinds=kinds) if kinds else None

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        condition: Tensor | None = None,
        counts: Sequence[int] = (),
        kept: slice = ALL,
    ) -> Tensor:
        """(B, L, D) -> (B, K, D).

        Args:
            x: the sequence.
            mask: see `SelfAttention`.
            condition, counts: see `Modulation`; for blocks that have one.
            kept: the K positions whose outputs are needed.
        """
        if self.modulation is None:
            x = x[:, kept] + self.attn(self.norm(x), mask, kept=kept)
            return x + self.mlp(self.norm(x))
        shift1, scale1, *others = self.modulation(condition, counts)
        gate1, shift2, scale2, gate2 = [vectors[:, kept] for vectors in others] if counts else others
        x = torch.addcmul(x[:, kept], gate1, self.attn(modulate(self.norm(x), shift1, scale1), mask, kept=kept))
        return torch.addcmul(x, gate2, self.mlp(modulate(self.norm(x), shift2, scale2)))
