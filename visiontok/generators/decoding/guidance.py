"""Classifier-free guidance: schedules of the scale, and the one formula that uses it.

A scale s stands for `unconditional + s * (conditional - unconditional)`: 0 ignores the condition, 1 is the conditional model, and larger scales
amplify the condition. Papers that write `conditional + g * (conditional - unconditional)` mean s = 1 + g; `LinearGuidance` does that for its own g.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from torch import Tensor

from visiontok.base.errors import ConfigError


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


@dataclass(frozen=True)
class RisingGuidance:
    """s rises linearly from 1 at the first step to `scale` at the last (VAR, xAR); of a single step it is `scale`."""

    scale: float

    def __call__(self, step: int, num_steps: int) -> float:
        return self.scale if num_steps == 1 else 1.0 + (self.scale - 1.0) * step / (num_steps - 1)


@dataclass(frozen=True)
class RampGuidance:
    """s goes from about 1 to `scale` over the steps, as 1 + (scale - 1) f(r) with r = (step + 1) / num_steps (ELM's generators).

    Attributes:
        scale: at the end.
        shape: f(r): `linear` r, `cosine` sin(pi r / 2), `log` ln(1 + (e - 1) r), `square` r^2, `square-root` sqrt(step / num_steps),
            `power-cosine` (1 - cos(pi r^power)) / 2.
        power: of `power-cosine`.
    """

    scale: float
    shape: Literal["linear", "cosine", "log", "square", "square-root", "power-cosine"]
    power: float = 3.0

    def __call__(self, step: int, num_steps: int) -> float:
        ratio = (step + 1) / num_steps
        share = {
            "linear": ratio,
            "cosine": math.cos(-math.pi / 2 + ratio * math.pi / 2),
            "log": math.log1p(ratio * (math.e - 1)) / math.log1p(math.e - 1),
            "square": ratio**2,
            "square-root": math.sqrt(step / num_steps),
            "power-cosine": (1 - math.cos(math.pi * ratio**self.power)) / 2,
        }[self.shape]
        return 1.0 + (self.scale - 1.0) * share


@dataclass(frozen=True)
class IntervalGuidance:
    """Another schedule within an interval of the steps, and s = 1 outside of it (arXiv 2404.07724).

    Attributes:
        inner: the schedule within.
        first, last: of the interval, as shares of the steps; a step is within if its middle, (step + 0.5) / num_steps, is.
    """

    inner: Guidance
    first: float
    last: float

    def __call__(self, step: int, num_steps: int) -> float:
        return self.inner(step, num_steps) if self.first <= (step + 0.5) / num_steps < self.last else 1.0


GuidanceSchedule: TypeAlias = Literal["constant", "rising", "linear", "cosine", "power-cosine", "log", "square", "square-root"]


def guidance_schedule(name: GuidanceSchedule, scale: float, *, power: float = 3.0, interval: tuple[float, float] = (0.0, 1.0)) -> Guidance:
    """The schedule of a name, for scales s of `u + s * (c - u)`.

    Args:
        name: which.
        scale: the largest s.
        power: exponent of `power-cosine`.
        interval: the share of the steps that are guided.

    Raises:
        ConfigError: if the scale is not finite.
    """
    if not math.isfinite(scale):
        raise ConfigError(f"a guidance scale is finite, got {scale}")
    found: Guidance
    if name == "constant":
        found = ConstantGuidance(scale)
    elif name == "power-cosine":
        found = PowerCosineGuidance(scale, power)
    elif name == "rising":
        found = RisingGuidance(scale)
    else:
        found = RampGuidance(scale, name)
    return found if interval == (0.0, 1.0) else IntervalGuidance(found, *interval)


def guide(conditional: Tensor, unconditional: Tensor, scale: float | Tensor) -> Tensor:
    """The guided logits `unconditional + scale * (conditional - unconditional)`, with one scale or one for every row (N, 1)."""
    return unconditional + scale * (conditional - unconditional)
