"""Choosing the next latent of every sample, for generators of continuous layouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from visiontok.base.config import Positive
from visiontok.generators.decoding.base import SamplingConfig
from visiontok.generators.decoding.guidance import ConstantGuidance, Guidance


@dataclass(frozen=True)
class LatentSampler:
    """The strategy of a generator that emits one latent per step.

    Attributes:
        guidance: scale of classifier-free guidance at every step.
        steps: of the flow or the diffusion; a mixture has none.
        temperature: of the noise: of what the flow starts from, of every step of the diffusion, or of what is added to a component's mean.
    """

    guidance: Guidance
    steps: int
    temperature: float

    def is_guided(self, step: int, num_steps: int) -> bool:
        """Whether a step needs what the backbone gives without the condition."""
        return self.guidance(step, num_steps) != 1


class LatentSampling(SamplingConfig):
    """Parameters of `LatentSampler`.

    Attributes:
        guidance: constant scale s of `u + s * (c - u)`; 1 is off.
        steps: of the flow or the diffusion; a mixture has none.
        temperature: of the noise: of what the flow starts from, of every step of the diffusion, or of what is added to a component's mean.
    """

    type: Literal["latents"] = "latents"
    guidance: float = 1.0
    steps: Positive = 20
    temperature: Annotated[float, Field(gt=0)] = 1.0

    def sampler(self) -> LatentSampler:
        """The strategy objects."""
        return LatentSampler(ConstantGuidance(self.guidance), self.steps, self.temperature)
