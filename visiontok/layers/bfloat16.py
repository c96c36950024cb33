"""bfloat16 models on CPUs that have no instructions for bfloat16 products.

There, torch multiplies bfloat16 matrices several times slower than float32 ones, and convolves a hundred times slower. Products are then
computed in float32, from bfloat16 weights and to bfloat16 results, which is also closer to what accelerators do: they accumulate in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_PRODUCTS = frozenset({F.linear, F.conv2d, F.conv3d, F.scaled_dot_product_attention, torch.einsum})


def products_for(tensor: Tensor) -> AbstractContextManager[Any]:
    """The context to run a model in, given one of its tensors: float32 products where bfloat16 ones are emulated, otherwise nothing."""
    emulated = tensor.dtype == torch.bfloat16 and tensor.device.type == "cpu" and not _multiplies_bfloat16()
    return Float32Products() if emulated else nullcontext()


class Float32Products(TorchFunctionMode):
    """Within it, linear layers, convolutions, attention and einsum on bfloat16 tensors compute in float32 and return bfloat16."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func not in _PRODUCTS:
            return func(*args, **(kwargs or {}))
        result = func(*map(_widened, args), **{name: _widened(value) for name, value in (kwargs or {}).items()})
        return result.to(torch.bfloat16)


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value


@cache
def _multiplies_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
