"""An exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from typing import Annotated, TypeVar

import torch
from pydantic import Field
from torch import nn

from visiontok.base.config import Config
from visiontok.training.sharding import own_part


class WeightEmaConfig(Config):
    """How slowly the average follows the weights.

    Attributes:
        decay: reached after about `10 / (1 - decay)` steps; before that the average follows faster.
    """

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.999


def effective_decay(decay: float, step: int) -> float:
    """The decay of step `step` (counted from 0): 0 at first, then min(decay, (1 + step) / (10 + step))."""
    return 0.0 if step == 0 else min(decay, (1 + step) / (10 + step))


ModelT = TypeVar("ModelT", bound=nn.Module)


def averaged_copy(model: ModelT) -> ModelT:
    """A frozen copy in evaluation mode, to be moved by `update_average`."""
    return copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, *, decay: float, step: int) -> None:
    """Move `average` towards `model`: parameters that are trained by gradient follow slowly; what else there is, such as a codebook that is a
    moving average already, is copied. Of sharded modules, every process moves its part."""
    pairs = list(zip(average.parameters(), model.parameters(), strict=True))
    trained = [(own_part(kept), own_part(current)) for kept, current in pairs if current.requires_grad]
    torch._foreach_lerp_([kept for kept, _ in trained], [current for _, current in trained], 1 - effective_decay(decay, step))
    others = [(kept, current) for kept, current in pairs if not current.requires_grad]
    for kept, current in [*others, *zip(average.buffers(), model.buffers(), strict=True)]:
        kept.copy_(current)
