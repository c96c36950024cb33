"""A table of positions over a square grid that is read at any other grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GridPositions(nn.Module):
    """Learned positions; a grid of another size reads the nearest entries.

    They start with the deviation `dim ** -0.5`, as published, and narrower than 384 with more: a small model reads content of unit scale, and
    learns sooner where things are if positions are not weak beside it.

    Args:
        side: of the table.
        dim: D.
    """

    def __init__(self, side: int, dim: int) -> None:
        super().__init__()
        deviation = dim**-0.5 * max(1.0, 384 / dim)
        self.table = nn.Parameter(torch.randn(dim, side, side) * deviation)

    def forward(self, height: int, width: int) -> Tensor:
        """(height * width, D), row by row."""
        return F.interpolate(self.table[None], size=(height, width), mode="nearest")[0].flatten(1).T
