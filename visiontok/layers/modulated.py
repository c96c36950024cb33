"""Transformer blocks for flow and diffusion models, which a condition modulates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from visiontok.layers.attention import ALL, SelfAttention
from visiontok.layers.block import Block
from visiontok.layers.llama import SwiGLU
from visiontok.layers.modulation import Modulation, modulate


class ModulatedBlock(Block):
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
