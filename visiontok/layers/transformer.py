"""The pre-norm transformer block of ViTs and its feed-forward part."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.layers.activations import gelu
from visiontok.layers.attention import ALL, SelfAttention
from visiontok.layers.block import Block


class Mlp(nn.Module):
    """Linear, activation, Linear.

    Args:
        dim: model dimension D.
        hidden_dim: in between.
        activation: may overwrite its argument.
        dropout: after the activation and of the output, in training.
    """

    def __init__(self, dim: int, hidden_dim: int, *, activation: Callable[[Tensor], Tensor] = gelu, dropout: float = 0.0) -> None:
        super().__init__()
        self.activation = activation
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.dropout(self.fc2(self.dropout(self.activation(self.fc1(x)))))


class TransformerBlock(Block):
    """`x += attn(norm1(x)); x += mlp(norm2(x))`, bidirectional.

    Args:
        dim: model dimension D.
        num_heads: attention heads.
        mlp_dim: hidden dim of the feed-forward part.
        eps: of both layer norms.
        activation: of the feed-forward part; may overwrite its argument.
        qkv_bias: bias of the packed attention projection.
        layer_scale: initial factor of a learned scale per channel on both branches, as in DINOv2; None for no such scales.
        drop_path: share of samples that skip a branch in training; the others' branches are enlarged accordingly.
        dropout: in training, after the attention's projection and after both layers of the feed-forward part.
        attention_dropout: of the attention probabilities, in training.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        mlp_dim: int,
        eps: float = 1e-5,
        activation: Callable[[Tensor], Tensor] = gelu,
        qkv_bias: bool = True,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = SelfAttention(dim, num_heads, qkv_bias=qkv_bias, dropout=attention_dropout)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, mlp_dim, activation=activation, dropout=dropout)
        self.scale1 = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))
        self.scale2 = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))
        self.drop_path, self.dropout = drop_path, dropout

    def forward(self, x: Tensor, mask: Tensor | None = None, *, kept: slice = ALL) -> Tensor:
        """(B, L, D) -> (B, K, D), the K positions `kept`; `mask` as for `SelfAttention`."""
        attended = F.dropout(self.attn(self.norm1(x), mask, kept=kept), self.dropout, self.training)
        x = x[:, kept] + self._branch(attended, self.scale1)
        return x + self._branch(self.mlp(self.norm2(x)), self.scale2)

    def _branch(self, x: Tensor, scale: Tensor | None) -> Tensor:
        if scale is not None:
            x = x * scale
        if self.drop_path and self.training:
            x = x * (torch.rand(len(x), 1, 1, dtype=torch.float32, device=x.device) >= self.drop_path) / (1 - self.drop_path)
        return x
