"""Multi-head self-attention, one for every bidirectional transformer of the zoo."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

ALL = slice(None)
"""Every position of a sequence."""


class SelfAttention(nn.Module):
    """Softmax attention of a sequence on itself: packed q, k, v.

    Args:
        dim: model dimension D.
        num_heads: heads; must divide D.
        qkv_bias: bias of the packed projection.
        proj_bias: bias of the output projection.
        qk_norm: layer norms without weights over each head's q and k.
        scale: of the products; None for `head_dim ** -0.5`.
        dropout: of the attention probabilities, in training.

    Raises:
        ValueError: if `num_heads` does not divide `dim`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        qkv_bias: bool = True,
        proj_bias: bool = True,
        qk_norm: bool = False,
        scale: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads {num_heads} does not divide dim {dim}")
        self.num_heads = num_heads
        self.qk_norm, self.scale, self.dropout = qk_norm, scale, dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim, bias=proj_bias)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, kept: slice = ALL) -> Tensor:
        """(B, L, D) -> (B, K, D).

        Args:
            x: the sequence.
            mask: broadcastable to (B, heads, L, L), queries on the last axis but one, keys on the last; bool, True where a query may see a key,
                or floats that are added to the scaled products; None for everywhere.
            kept: the K positions whose outputs are needed; only they are queries, all are keys.
        """
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query = query[:, :, kept]
        if mask is not None and mask.shape[-2] > 1:
            mask = mask[..., kept, :]
        if self.qk_norm:
            query, key = F.layer_norm(query, query.shape[-1:]), F.layer_norm(key, key.shape[-1:])
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=self.scale)
        return self.proj(attended.transpose(1, 2).flatten(2))
