"""Multi-head self-attention, one for every bidirectional transformer of the zoo."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """Softmax attention of a sequence on itself: packed q, k, v; scale `head_dim ** -0.5`.

    Args:
        dim: width D.
        num_heads: heads; must divide D.
        qkv_bias: bias of the packed projection.
        dropout: of the attention probabilities, in training.

    Raises:
        ValueError: if the heads do not divide the width.
    """

    def __init__(self, dim: int, num_heads: int, *, qkv_bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a width of {dim}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D).

        Args:
            x: the sequence.
            mask: bool, broadcastable to (B, heads, L, L): True where a query (last but one axis) may see a key (last axis); None for everywhere.
        """
        batch, length, dim = x.shape
        query, key, value = self.qkv(x).view(batch, length, 3, self.num_heads, dim // self.num_heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.proj(attended.transpose(1, 2).reshape(batch, length, dim))
