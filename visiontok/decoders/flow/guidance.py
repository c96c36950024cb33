"""Guidance of a flow: how the velocities with and without a condition become one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Config

Combine: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(conditional (B, ...), unconditional (B, ...)) -> guided (B, ...), called once per step, in order."""


class GuidanceRule(Config):
    """A rule and its strength."""

    @abstractmethod
    def start(self) -> Combine:
        """The rule for one run, from its first step on."""


class ClassifierFree(GuidanceRule):
    """v = u + scale * (c - u) (Ho & Salimans 2022); a scale of 1 is the conditional velocity."""

    rule: Literal["cfg"] = "cfg"
    scale: float

    def start(self) -> Combine:
        return lambda conditional, unconditional: unconditional + self.scale * (conditional - unconditional)


class AdaptiveProjected(GuidanceRule):
    """Adaptive projected guidance (Sadat et al. 2024, arXiv 2410.02416): only the component of the difference that is orthogonal to the conditional
    velocity is amplified.

    Attributes:
        scale: of this component; 1 is the conditional velocity.
        momentum: weight of the differences of earlier steps; negative values damp them.
        norm_threshold: larger differences of a sample are scaled to this norm.
    """

    rule: Literal["apg"] = "apg"
    scale: float
    momentum: float = -0.5
    norm_threshold: float = Field(default=2.5, gt=0)

    def start(self) -> Combine:
        running: Tensor | None = None

        def combine(conditional: Tensor, unconditional: Tensor) -> Tensor:
            nonlocal running
            difference = (conditional - unconditional).float().flatten(1)
            running = difference if running is None else difference + self.momentum * running
            norm = running.norm(dim=1, keepdim=True)
            shortened = running * (self.norm_threshold / norm).clamp(max=1)
            direction = torch.nn.functional.normalize(conditional.float().flatten(1), dim=1)
            orthogonal = shortened - (shortened * direction).sum(dim=1, keepdim=True) * direction
            return conditional + (self.scale - 1) * orthogonal.view_as(conditional).to(conditional.dtype)

        return combine


Guidance = Annotated[ClassifierFree | AdaptiveProjected, Field(discriminator="rule")]
"""One of the rules, for a field of a configuration."""
