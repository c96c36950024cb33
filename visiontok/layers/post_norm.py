"""The post-norm transformer block of BERT."""

from __future__ import annotations

from torch import Tensor, nn

from visiontok.layers.attention import SelfAttention
from visiontok.layers.transformer import Mlp


class PostNormBlock(nn.Module):
    """`x = norm1(x + attn(x)); x = norm2(x + mlp(x))`, bidirectional (arXiv 1810.04805).

    Args:
        dim: width D.
        num_heads: attention heads.
        mlp_dim: hidden width of the feed-forward part.
        eps: of both layer norms.
        dropout: of the outputs of both parts, in training.
        attention_dropout: of the attention probabilities, in training.
    """

    def __init__(self, dim: int, num_heads: int, *, mlp_dim: int, eps: float, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.attn = SelfAttention(dim, num_heads, dropout=attention_dropout)
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, mlp_dim)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = self.norm1(x + self.dropout(self.attn(x)))
        return self.norm2(x + self.dropout(self.mlp(x)))
