"""The tokens of a step as one vector."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn


class StepEmbedding(nn.Module):
    """Embeddings of tokens from one table of all codebooks, combined over the tokens of a step.

    Args:
        num_codes: rows of the table, `TokenLayout.num_codes`.
        dim: D.
        tokens_per_step: K.
        combine: `sum`, or `concat` for a linear map of the concatenated embeddings (ELM); the same for one token per step.
    """

    def __init__(self, num_codes: int, dim: int, *, tokens_per_step: int, combine: Literal["sum", "concat"]) -> None:
        super().__init__()
        self.table = nn.Embedding(num_codes, dim)
        self.project = nn.Linear(tokens_per_step * dim, dim, bias=False) if combine == "concat" and tokens_per_step > 1 else None

    def forward(self, rows: Tensor, held: Tensor) -> Tensor:
        """Rows (B, T, K) of the table -> (B, T, D); those that are not held (B, T, K) count as zeros."""
        embedded = self.table(rows)
        if rows.shape[-1] == 1:
            return embedded[..., 0, :]
        embedded = embedded.masked_fill(~held[..., None], 0)
        return embedded.sum(dim=-2) if self.project is None else self.project(embedded.flatten(-2))
