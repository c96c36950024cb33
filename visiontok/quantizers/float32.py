"""Codebooks and statistics stay float32, whatever type the model around them goes to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import Self


class Float32Module(nn.Module):
    """A module whose own parameters and buffers keep float32 through `.to(dtype)`, `.half()` and the like; its submodules follow the model.

    Moving averages in bfloat16 would not move: an update by 0.01 of the difference is below its rounding.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        own = {**self._parameters, **self._buffers}
        before = {
            name: (tensor.data, None if tensor.grad is None else tensor.grad.data)
            for name, tensor in own.items()
            if tensor is not None and tensor.dtype == torch.float32
        }
        super()._apply(fn, recurse)
        for name, (data, gradient) in before.items():
            moved = getattr(self, name)
            if moved.dtype != torch.float32:
                moved.data = data.to(moved.device)
                moved.grad = None if gradient is None else gradient.to(moved.device)
        return self
