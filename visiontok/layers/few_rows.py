"""Linear maps of a few rows on the CPU, where reading the weights from memory once is what takes the time."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_ROWS = 4
"""Below, Intel's usual product already reads the weights at the memory's bandwidth; with more rows, it copies them into a layout of its own at every
call."""
MOST_ROWS = 8
"""With more, the usual product of weights that are used once is as fast as any."""


def is_plain(weight: Tensor) -> bool:
    """Whether products with a weight are on the CPU, in float32 and without autocast."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def product_of(weight: Tensor, rows: int, *, uses: int, bias: Tensor | None = None, out: Tensor | None = None) -> Product:
    """The fastest product of a weight and few rows; copying the weights into another layout must pay.

    Args:
        weight: (N, D).
        rows: R, at most.
        uses: how often about it will be called.
        bias: (N,).
        out: (R, N) where the usual product may write what it returns.
    """
    bias = None if bias is None else bias.detach()
    if is_plain(weight):
        has_onednn = torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")
        if not _is_intel() and has_onednn and weight.numel() >= OneDNNProduct.LEAST_WEIGHTS:
            return OneDNNProduct(weight.detach(), bias, is_packed=uses >= OneDNNProduct.LEAST_USES)
        if _is_intel() and torch.backends.mkl.is_available() and rows >= LEAST_ROWS:
            if uses >= MKLProduct.LEAST_USES:
                return MKLProduct(weight.detach(), bias, rows)
            if rows <= MOST_ROWS and len(weight) % BlockedProduct.OUTPUTS == 0:
                return BlockedProduct(weight.detach(), bias)
    return UsualProduct(weight.detach(), bias, out)


class Product(ABC):
    """`x W^T + b`, without gradients; see `product_of`."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """(R, D) -> (R, N)."""

    def add_to(self, residual: Tensor, x: Tensor) -> None:
        """Add it to (R, N)."""
        residual.add_(self(x))


class UsualProduct(Product):
    """That of torch."""

    def __init__(self, weight: Tensor, bias: Tensor | None, out: Tensor | None) -> None:
        self._transposed, self._bias, self._out = weight.t(), bias, out

    def __call__(self, x: Tensor) -> Tensor:
        if self._bias is None:
            return torch.mm(x, self._transposed, out=self._out)
        return torch.addmm(self._bias, x, self._transposed, out=self._out)

    def add_to(self, residual: Tensor, x: Tensor) -> None:
        residual.addmm_(x, self._transposed)
        if self._bias is not None:
            residual.add_(self._bias)


class BlockedProduct(Product):
    """That of torch, in blocks of outputs: it then does not copy the weights into a layout of its own.

    Attributes:
        OUTPUTS: per block; one of a usual dim and its inputs lie in a core's cache.
    """

    OUTPUTS = 128

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._blocks, self._bias = weight.unflatten(0, (-1, self.OUTPUTS)).transpose(1, 2), bias

    def __call__(self, x: Tensor) -> Tensor:
        product = torch.bmm(x.expand(len(self._blocks), -1, -1), self._blocks).transpose(0, 1).flatten(1)
        return product if self._bias is None else product.add_(self._bias)


class MKLProduct(Product):
    """MKL's, with weights in a layout of its own. It is fast on Intel's processors only.

    Attributes:
        LEAST_USES: from which copying the weights pays.
    """

    LEAST_USES = 16

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int) -> None:
        self._weight, self._bias, self._rows = weight, bias, rows
        self._packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, rows)

    def __call__(self, x: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkl._mkl_linear(x, self._packed, self._weight, self._bias, self._rows)
        return product


class OneDNNProduct(Product):
    """oneDNN's. On processors that are not Intel's it reads weights two to four times faster than MKL's does, and faster still in its own layout.

    Attributes:
        LEAST_WEIGHTS: from which it is faster; fewer lie in a core's cache, and starting it takes longer than reading them.
        LEAST_USES: from which copying the weights pays.
        LAYOUT_ROWS: for which the layout is made; it serves other numbers of rows as well.
        FILLED_ROWS: to which fewer are filled, as such products read the weights faster.
    """

    LEAST_WEIGHTS = 2**17
    LEAST_USES = 64
    LAYOUT_ROWS = 16
    FILLED_ROWS = 4

    def __init__(self, weight: Tensor, bias: Tensor | None, *, is_packed: bool) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, self.LAYOUT_ROWS) if is_packed else weight.contiguous()
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        rows = len(x)
        if rows < self.FILLED_ROWS:
            x = F.pad(x, (0, 0, 0, self.FILLED_ROWS - rows))
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return product[:rows]


@cache
def _is_intel() -> bool:
    """Whether the processor is Intel's."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return "GenuineIntel" in file.read(4096)
    except OSError:
        return "GenuineIntel" in platform.processor()
