"""Activations of a temporary: they overwrite their argument where no gradient is recorded.

At full resolution an activation takes the time of allocating memory, not of arithmetic; writing into the argument halves it and the peak with it.
Pass only what nobody else holds, such as the output of the layer before.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x), any shape; also called swish."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def gelu(x: Tensor) -> Tensor:
    """x * Phi(x) with the exact normal distribution function, any shape."""
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """The approximation of `gelu` by a hyperbolic tangent, any shape."""
    return F.gelu(x, approximate="tanh") if torch.is_grad_enabled() else torch.ops.aten.gelu_(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), any shape: the approximation of `gelu` in OpenAI's CLIP."""
    return x * torch.sigmoid(1.702 * x)
