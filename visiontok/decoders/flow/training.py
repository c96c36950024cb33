"""Training a rectified flow: at which times, on which mixtures, with which loss."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.noise import Noise


class TimeSchedule(Config):
    """How often a time is trained."""

    @abstractmethod
    def draw(self, samples: int, noise: Noise) -> Tensor:
        """(samples,) times in [0, 1]."""


class ModeTimes(TimeSchedule):
    """Uniform times, drawn towards the middle by `mode_scale` (Esser et al. 2024, arXiv 2403.03206, equation 20); 0 leaves them uniform."""

    times: Literal["mode"] = "mode"
    mode_scale: float = 0.25

    def draw(self, samples: int, noise: Noise) -> Tensor:
        uniform = noise.uniform(samples)
        return 1 - uniform - self.mode_scale * (torch.cos(math.pi / 2 * uniform) ** 2 - 1 + uniform)


class LogitNormalTimes(TimeSchedule):
    """The logistic function of a Gaussian (equation 19 there).

    Attributes:
        mean: of the Gaussian; above 0 draws the times towards the noise.
        deviation: of the Gaussian.
        stratified: every sample of a batch draws from its own part of the distribution.
    """

    times: Literal["logit_normal"] = "logit_normal"
    mean: float = 0.0
    deviation: float = Field(default=1.0, gt=0)
    stratified: bool = False

    def draw(self, samples: int, noise: Noise) -> Tensor:
        if self.stratified:
            uniform = noise.uniform(samples)
            unit = torch.special.ndtri((torch.arange(samples, dtype=uniform.dtype, device=uniform.device) + uniform) / samples)
        else:
            unit = noise.normal(samples)
        return (self.mean + self.deviation * unit).sigmoid()


FlowTimes = Annotated[ModeTimes | LogitNormalTimes, Field(discriminator="times")]
"""One of the schedules, for a field of a configuration."""


def mix(data: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """The point at `times` (B,) on the straight line from the data (B, ...) at 0 to the noise at 1."""
    share = times.view(-1, *[1] * (data.ndim - 1)).to(data.dtype)
    return share * noise + (1 - share) * data


def flow_loss(velocity: Tensor, data: Tensor, noise: Tensor) -> Tensor:
    """(B,): mean square of noise - data - velocity, in float32."""
    return (noise.float() - data.float() - velocity.float()).square().flatten(1).mean(dim=1)


def estimate(noisy: Tensor, velocity: Tensor, times: Tensor) -> Tensor:
    """The data at the end of a straight path from the mixture (B, ...) at `times` (B,)."""
    return noisy - times.view(-1, *[1] * (noisy.ndim - 1)).to(noisy.dtype) * velocity
