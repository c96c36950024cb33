"""What a condition does to a transformer block: it shifts, scales and gates (adaLN, Peebles & Xie 2022, arXiv 2212.09748)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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

    def of_runs(self, condition: Tensor, length: int) -> tuple[Tensor, ...]:
        """`parts` tensors (B, N * length, D), where every run of tokens has a condition of its own.

        Args:
            condition: (B, N, D); of N runs, one after the other.
            length: tokens in a run.
        """
        vectors = self.linear(F.silu(condition)).unflatten(-1, (self.parts, -1))
        if length > 1:
            vectors = vectors.repeat_interleave(length, dim=1)
        return vectors.unbind(dim=2)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`x * (1 + scale) + shift`."""
    return torch.addcmul(shift, x, 1 + scale)
