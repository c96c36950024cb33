"""Classifier-free guidance: schedules of the scale, and the one formula that uses it.

A scale s stands for `unconditional + s * (conditional - unconditional)`: 0 ignores the condition, 1 is the conditional model, and larger scales
amplify the condition. Papers that write `conditional + g * (conditional - unconditional)` mean s = 1 + g; `LinearGuidance` does that for its own g.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Guidance(Protocol):
    """The scale s of every sampling step."""

    def __call__(self, step: int, num_steps: int) -> float:
        """The scale of step `step` in range(num_steps)."""


@dataclass(frozen=True)
class ConstantGuidance:
    """s = `scale` at every step; 1 switches guidance off."""

    scale: float = 1.0

    def __call__(self, step: int, num_steps: int) -> float:
        return self.scale


@dataclass(frozen=True)
class LinearGuidance:
    """s = 1 + `strength` * step / num_steps: the schedule of MaskGIT's successors, which starts unguided."""

    strength: float

    def __call__(self, step: int, num_steps: int) -> float:
        return 1.0 + self.strength * step / num_steps


@dataclass(frozen=True)
class PowerCosineGuidance:
    """s rises from 1 towards `scale` as (1 - cos(pi * (step / num_steps) ** power)) / 2 (MDT, arXiv 2303.14389); power 0 is constant."""

    scale: float
    power: float = 3.0

    def __call__(self, step: int, num_steps: int) -> float:
        return 1.0 + (self.scale - 1.0) * (1.0 - math.cos(math.pi * (step / num_steps) ** self.power)) / 2


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """The guided logits `unconditional + scale * (conditional - unconditional)`."""
    return unconditional + scale * (conditional - unconditional)
