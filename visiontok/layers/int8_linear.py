"""Linear maps whose weights are stored in 8 bits, for sampling where reading the weights bounds the speed."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.errors import ConfigError
from visiontok.layers.few_rows import LEAST_ROWS


class Int8Linear(nn.Module):
    """A linear map without bias; every output has one scale, so that its largest weight is 127 (weight-only, symmetric, rounded to the nearest).

    On the CPU fewer than `LEAST_ROWS` inputs are multiplied by torch's 8-bit kernel, in bfloat16; more by the weights in the type of the inputs.

    Args:
        linear: whose weights (N, D) are rounded.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        self.register_buffer("rounded", (weight / scales[:, None]).round().to(torch.int8))
        self.register_buffer("scales", scales)
        self.train(linear.training)

    rounded: Tensor
    scales: Tensor

    @property
    def weight(self) -> Tensor:
        """(N, D) float32: the weights that the rounded ones stand for."""
        return self.rounded.float() * self.scales[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., N)."""
        rows = x.reshape(-1, x.shape[-1])
        if x.device.type == "cpu" and len(rows) < LEAST_ROWS:
            return torch._weight_int8pack_mm(rows.bfloat16(), self.rounded, self.scales.bfloat16()).to(x.dtype).view(*x.shape[:-1], -1)
        return F.linear(x, self.weight.to(x.dtype))


def round_weights(model: nn.Module) -> None:
    """Replace every linear map without bias by an `Int8Linear`; embeddings, norms and heads with a table of codes stay as they are.

    For sampling only: rounded weights are neither trained nor saved.

    Raises:
        ConfigError: if these maps hold less than half of the weights of all, such as those of GPT-2's blocks, which have biases.
    """
    found = [(parent, name, child) for parent in model.modules() for name, child in parent.named_children() if _is_plain(child)]
    kept = sum(module.weight.numel() for module in model.modules() if type(module) is nn.Linear and module.bias is not None)
    if not found or kept > sum(child.weight.numel() for *_, child in found):
        raise ConfigError(
            f"the linear maps of this {type(model).__name__} have biases, or it has none; those without a bias can be rounded to 8 bits"
        )
    for parent, name, child in found:
        setattr(parent, name, Int8Linear(child))


def _is_plain(module: nn.Module) -> TypeGuard[nn.Linear]:
    return type(module) is nn.Linear and module.bias is None
