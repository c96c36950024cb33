"""A linear map of a few rows, from weights that are read from memory once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_ROWS, MOST_ROWS = 4, 8
"""With fewer, the usual product of a matrix and few vectors already reads the weights at the memory's bandwidth; with more, blocks are copied."""
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
        return _block_by_block(x, self._blocks)[:, : self._outputs]


def linear_of_few_rows(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` of (R, D), (N, D) and (N,), block by block where that is faster: on the CPU, for a few rows and without gradients."""
    is_few = x.dim() == 2 and LEAST_ROWS <= len(x) <= MOST_ROWS and len(weight) % BLOCK == 0
    if not is_few or x.device.type != "cpu" or torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    product = _block_by_block(x, weight.unflatten(0, (-1, BLOCK)).transpose(1, 2))
    return product if bias is None else product + bias


def _block_by_block(x: Tensor, blocks: Tensor) -> Tensor:
    """(R, D) and weights (blocks, D, BLOCK) -> (R, blocks * BLOCK)."""
    return torch.bmm(x.expand(len(blocks), -1, -1), blocks).transpose(0, 1).flatten(1)
