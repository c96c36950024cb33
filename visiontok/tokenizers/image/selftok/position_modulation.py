"""Modulation by a token's position in its sequence, embedded like a diffusion timestep (Selftok, Wang et al. 2025, arXiv 2505.07538)."""

from __future__ import annotations

import torch
from torch import Tensor

from visiontok.layers.modulation import Modulation
from visiontok.layers.timesteps import TimestepEmbedding

FIRST_POSITION, POSITION_STEP = 1000, 8
"""Positions begin where the thousandths of a flow's time end, 8 apart."""


def token_positions(count: int, *, device: torch.device | None = None) -> Tensor:
    """(count,) float32: 1000, 1008, 1016, ..."""
    return torch.arange(count, device=device, dtype=torch.float32) * POSITION_STEP + FIRST_POSITION


class PositionModulation(Modulation):
    """Each token's position, embedded and turned into vectors of its own; the same for every sample."""

    def __init__(self, dim: int, *, parts: int) -> None:
        super().__init__(dim, parts=parts)
        self.embed = TimestepEmbedding(dim)

    def of_first(self, count: int) -> tuple[Tensor, ...]:
        """`parts` tensors (1, count, D) for the first tokens."""
        vectors = self(self.embed(token_positions(count, device=self.linear.weight.device)))
        return tuple(part.transpose(0, 1) for part in vectors)
