"""One categorical distribution per token, over the codes of its codebook."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CategoricalHead(nn.Linear):
    """A linear map to the rows of all codebooks in one table; a position uses those of its own.

    Args:
        dim: D.
        num_codes: rows of the table, `TokenLayout.num_codes`.
    """

    def __init__(self, dim: int, num_codes: int) -> None:
        super().__init__(dim, num_codes, bias=False)

    def reset_parameters(self) -> None:
        """Zero, so that an untrained model gives every code the same probability."""
        nn.init.zeros_(self.weight)

    def logits(self, hidden: Tensor, first: int, size: int) -> Tensor:
        """Logits (..., size) float32 over the codebook whose rows begin at `first`, from (..., D)."""
        return F.linear(hidden, self.weight[first : first + size]).float()

    def nll(self, hidden: Tensor, indices: Tensor, first: Tensor, sizes: Tensor, held: Tensor) -> Tensor:
        """Minus the log-probability of every token, in nats.

        Args:
            hidden: (B, T, D).
            indices: (B, T) int64 codes.
            first: (B, T) int64 where each token's codebook begins.
            sizes: (B, T) int64 codes of each token's codebook.
            held: (B, T) bool, False where there is no token.

        Returns:
            (B, T) float32; 0 where there is no token.
        """
        nll = hidden.new_zeros(indices.shape, dtype=torch.float32)
        for where, logits in self._by_codebook(hidden, first, sizes, held):
            nll[where] = F.cross_entropy(logits, indices[where], reduction="none")
        return nll

    def correct(self, hidden: Tensor, indices: Tensor, first: Tensor, sizes: Tensor, held: Tensor) -> Tensor:
        """(B, T) bool: whether the most likely code of a token is its code; arguments as in `nll`."""
        correct = torch.zeros_like(held)
        for where, logits in self._by_codebook(hidden, first, sizes, held):
            correct[where] = logits.argmax(dim=-1) == indices[where]
        return correct

    def _by_codebook(self, hidden: Tensor, first: Tensor, sizes: Tensor, held: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The tokens (B, T) bool of every codebook, and their logits (n, size)."""
        for begin, size in torch.unique(torch.stack([first[held], sizes[held]]), dim=1).T.tolist():
            where = held & (first == begin) & (sizes == size)
            yield where, self.logits(hidden[where], begin, size)
