"""On CPUs without instructions for bfloat16 products, those of bfloat16 models are computed in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from visiontok.layers import bfloat16
from visiontok.layers.bfloat16 import Float32Products, products_for

_MOVES = {"_to_copy", "transpose", "view", "unsqueeze", "squeeze", "expand", "detach", "_unsafe_view", "copy_", "clone", "t", "zeros", "select"}


def attention(module: nn.Module, x: Tensor) -> Tensor:
    found: Tensor = module(x, x, x)[0]
    return found


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...], Callable[[nn.Module, Tensor], Tensor]]] = {
    "linear": (nn.Linear(8, 4), (3, 8), lambda module, x: module(x)),
    **{
        kind.__name__: (kind(4, 2, 3), (2, 4, *[5] * dims), lambda module, x: module(x))
        for dims, kinds in ((1, (nn.Conv1d, nn.ConvTranspose1d)), (2, (nn.Conv2d, nn.ConvTranspose2d)), (3, (nn.Conv3d, nn.ConvTranspose3d)))
        for kind in kinds
    },
    "lstm": (nn.LSTM(8, 4, num_layers=2, batch_first=True, bidirectional=True), (2, 6, 8), lambda module, x: module(x)[0]),
    "attention": (nn.MultiheadAttention(8, 2, batch_first=True), (2, 3, 8), attention),
    "products": (nn.Identity(), (2, 4, 4), lambda module, x: x @ x + torch.matmul(x, x) + torch.bmm(x, x) + torch.einsum("bij,bkj->bik", x, x)),
    "sdpa": (nn.Identity(), (2, 3, 4), lambda module, x: F.scaled_dot_product_attention(x, x, x)),
}


class TypesSeen(TorchDispatchMode):
    """Names of the operations that read bfloat16 numbers, but for those that only move them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if any(isinstance(leaf, Tensor) and leaf.dtype == torch.bfloat16 for leaf in tree_leaves((args, kwargs or {}))):
            self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_products_are_those_of_float32(name: str) -> None:
    layer, shape, apply = LAYERS[name]
    layer = layer.to(torch.bfloat16).eval()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    with Float32Products(), TypesSeen() as seen:
        found = apply(layer, x)
    assert seen.names - _MOVES <= {"add"}
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), apply(layer.float(), x.float()), rtol=2e-2, atol=2e-2)
    with Float32Products():
        assert apply(layer, x.float()).dtype == torch.float32


def test_they_are_widened_only_where_they_are_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.ones(1, dtype=torch.bfloat16)
    monkeypatch.setattr(bfloat16, "_multiplies_bfloat16", lambda: False)
    assert isinstance(products_for(weight), Float32Products)
    assert not isinstance(products_for(weight.float()), Float32Products)
    monkeypatch.setattr(bfloat16, "_multiplies_bfloat16", lambda: True)
    assert not isinstance(products_for(weight), Float32Products)
