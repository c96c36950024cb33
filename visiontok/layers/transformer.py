"""The pre-norm transformer block of ViTs and its feed-forward part."""

from __future__ import annotations

from torch import Tensor, nn

from visiontok.layers.activations import gelu
from visiontok.layers.attention import SelfAttention


class Mlp(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(gelu(self.fc1(x)))


class TransformerBlock(nn.Module):
    """`x += attn(norm1(x)); x += mlp(norm2(x))`, bidirectional.

    Args:
        dim: width D.
        num_heads: attention heads.
        mlp_dim: hidden width of the feed-forward part.
        eps: of both layer norms.
        qkv_bias: bias of the packed attention projection.
    """

    def __init__(self, dim: int, num_heads: int, *, mlp_dim: int, eps: float = 1e-5, qkv_bias: bool = True) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = SelfAttention(dim, num_heads, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, mlp_dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D); `mask` as for `SelfAttention`."""
        x = x + self.attn(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))
