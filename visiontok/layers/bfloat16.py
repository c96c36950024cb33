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
from torch.utils._pytree import tree_leaves, tree_map

_PRODUCTS = frozenset(
    {
        *(F.linear, torch.einsum, torch.matmul, Tensor.matmul, torch.bmm, torch.lstm),
        *(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
        *(F.scaled_dot_product_attention, F.multi_head_attention_forward),
    }
)


def products_for(tensor: Tensor) -> AbstractContextManager[Any]:
    """The context to run a model in, given one of its tensors: float32 products where bfloat16 ones are emulated, otherwise nothing."""
    emulated = tensor.dtype == torch.bfloat16 and tensor.device.type == "cpu" and not _multiplies_bfloat16()
    return Float32Products() if emulated else nullcontext()


class Float32Products(TorchFunctionMode):
    """Within it, matrix products, linear layers, convolutions, attention and LSTMs on bfloat16 tensors compute in float32 and return bfloat16.

    Those on tensors of other types alone stay as they are.
    """

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        given = (args, kwargs or {})
        if func not in _PRODUCTS or not any(map(_is_bfloat16, tree_leaves(given))):
            return func(*args, **(kwargs or {}))
        args, kwargs = tree_map(_widened, given)
        return tree_map(_narrowed, func(*args, **kwargs))


def _is_bfloat16(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bfloat16


def _widened(value: Any) -> Any:
    return value.float() if _is_bfloat16(value) else value


def _narrowed(value: Any) -> Any:
    return value.to(torch.bfloat16) if isinstance(value, Tensor) else value


@cache
def _multiplies_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
