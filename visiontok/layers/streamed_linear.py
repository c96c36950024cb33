"""A linear map of a few rows, from weights that are read from memory once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_ROWS = 4
"""With fewer, the usual product of a matrix and few vectors already reads the weights at the memory's bandwidth."""
BLOCK = 128
"""Outputs per block: one of a usual dim and its inputs lie in a core's cache."""


class StreamedLinear:
    """`x W^T` on the CPU for few rows, yet at least `LEAST_ROWS`.

    The products of BLAS copy a large matrix into a layout of their own at every call, which costs more than a product with 4 to 32 rows. Here the
    weights are copied once into blocks of outputs, and a call multiplies block by block.

    Args:
        weight: (N, D).
    """

    def __init__(self, weight: Tensor) -> None:
        self._outputs = len(weight)
        padded = F.pad(weight, (0, 0, 0, -len(weight) % BLOCK))
        self._blocks = padded.unflatten(0, (-1, BLOCK)).transpose(1, 2).contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """(R, D) -> (R, N)."""
        blocks = torch.bmm(x.expand(len(self._blocks), -1, -1), self._blocks)
        return blocks.transpose(0, 1).flatten(1)[:, : self._outputs]
