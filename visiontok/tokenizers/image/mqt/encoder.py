"""Learned queries that read a grid of image features by cross-attention (the Matryoshka Query Transformer, Hu et al. 2024, arXiv 2405.19315)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.layers.patches import sincos_positions


class QueryResampler(nn.Module):
    """One attention layer: learned queries, keys from positions alone, values from the features; then a matrix to the output's dim.

    Which features a query looks at follows from its position, not from the image, as the released weights require. Queries do not see each other,
    so the first m outputs are the same however many follow.

    Args:
        query_side: of the square grid of query positions; M is its square.
        feature_side: of the square grid of features.
        feature_dim: D of a feature, and of the attention.
        output_dim: dim of an output.
        num_heads: attention heads.
    """

    positions: Tensor

    def __init__(self, *, query_side: int, feature_side: int, feature_dim: int, output_dim: int, num_heads: int) -> None:
        super().__init__()
        self.query_side, self.feature_side = query_side, feature_side
        self.queries = nn.Parameter(nn.init.trunc_normal_(torch.empty(query_side**2, feature_dim), std=0.02))
        self.register_buffer("positions", _column_first(sincos_positions(query_side, query_side, feature_dim)).half().float())
        self.norm_queries, self.norm_keys, self.norm_values = (nn.LayerNorm(feature_dim, eps=1e-6) for _ in range(3))
        self.attn = nn.MultiheadAttention(feature_dim, num_heads, batch_first=True)
        self.proj = nn.Parameter(torch.randn(feature_dim, output_dim) * output_dim**-0.5)

    @property
    def key_positions(self) -> Tensor:
        """(feature_side ** 2, D): the queries' positions, resized to the grid of features."""
        table = self.positions.float().unflatten(0, (self.query_side, self.query_side)).permute(2, 0, 1)
        resized = F.interpolate(table[None], size=(self.feature_side, self.feature_side), mode="bicubic", align_corners=False)
        return resized[0].flatten(1).T.to(self.positions.dtype)

    def forward(self, features: Tensor, num_queries: int | None = None) -> Tensor:
        """Features (B, feature_side ** 2, D), row by row -> (B, num_queries, output_dim); all M queries where the number is None."""
        query = self.norm_queries(self.queries[:num_queries] + self.positions[:num_queries]).expand(len(features), -1, -1)
        key = self.norm_keys(self.key_positions).expand(len(features), -1, -1)
        read, _ = self.attn(query, key, self.norm_values(features), need_weights=False)
        return read @ self.proj


def _column_first(positions: Tensor) -> Tensor:
    """Positions whose first half of the channels tells the row -> those whose first half tells the column."""
    return torch.cat(positions.chunk(2, dim=1)[::-1], dim=1)
