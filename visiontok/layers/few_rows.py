"""Linear maps of a few rows on the CPU, where reading the weights from memory once is what takes the time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_ROWS = 4
"""With fewer, the usual product of a matrix and few vectors already reads the weights at the memory's bandwidth; with more, it copies them into a
layout of its own at every call."""
MOST_UNPACKED_ROWS = 8
"""With more, the products of `linear_of_few_rows` are no faster than the usual one."""
BLOCK = 128
"""Outputs per block of `linear_of_few_rows`: one of a usual dim and its inputs lie in a core's cache."""


def is_plain(weight: Tensor) -> bool:
    """Whether products with a weight are on the CPU, in float32 and without autocast."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def can_pack(weight: Tensor) -> bool:
    """Whether `PackedLinear` has a product for a weight: a plain one, where torch was built with MKL."""
    return is_plain(weight) and torch.backends.mkl.is_available()


class PackedLinear:
    """`x W^T + b`, by MKL's product with weights that were copied once into its own layout; without gradients.

    Args:
        weight: (N, D); see `can_pack`.
        rows: for which the product is made; with others it is the usual one.
        bias: (N,).
    """

    def __init__(self, weight: Tensor, rows: int, *, bias: Tensor | None = None) -> None:
        self._weight, self._bias, self._rows = weight.detach(), None if bias is None else bias.detach(), rows
        self._packed = torch.ops.mkl._mkl_reorder_linear_weight(self._weight, rows)

    def __call__(self, x: Tensor) -> Tensor:
        """(R, D) -> (R, N)."""
        product: Tensor = torch.ops.mkl._mkl_linear(x, self._packed, self._weight, self._bias, self._rows)
        return product


def linear_of_few_rows(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` of (R, D), (N, D) and (N,), in blocks of outputs where that is faster: on the CPU, for a few rows and without gradients."""
    is_few = x.dim() == 2 and LEAST_ROWS <= len(x) <= MOST_UNPACKED_ROWS and len(weight) % BLOCK == 0
    if not is_few or x.device.type != "cpu" or torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    blocks = weight.unflatten(0, (-1, BLOCK)).transpose(1, 2)
    product = torch.bmm(x.expand(len(blocks), -1, -1), blocks).transpose(0, 1).flatten(1)
    return product if bias is None else product + bias
