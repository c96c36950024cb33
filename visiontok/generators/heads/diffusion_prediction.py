"""What the network of a diffusion head predicts: the noise (DDPM), or the velocity v (arXiv 2202.00512).

Both stand for the same latent, but not with the same rounding. Where the network computes in bfloat16, its output carries a relative error. The
latent that predicted noise stands for has that error times sqrt(1 - abar) / sqrt(abar), which grows without bound towards pure noise; of a predicted
v the factor is sqrt(1 - abar), never above 1 (MMAR, arXiv 2410.10798). Everything but the network is computed in float32, whatever the autocast.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from torch import Tensor

from visiontok.generators.heads.diffusion_schedule import DiffusionSchedule

PredictionName: TypeAlias = Literal["epsilon", "v"]


class Prediction(Protocol):
    """A parameterization of the network. All latents are (N, C) float32, all steps (N,) int64."""

    def target(self, schedule: DiffusionSchedule, latents: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        """What the network should give for the noisy latents of these."""

    def denoised(self, schedule: DiffusionSchedule, x: Tensor, predicted: Tensor, steps: Tensor) -> Tensor:
        """The latents that noisy ones and the network's output stand for."""


class EpsilonPrediction:
    """The noise eps in x = sqrt(abar) latent + sqrt(1 - abar) eps, as in MAR."""

    def target(self, schedule: DiffusionSchedule, latents: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        return noise

    def denoised(self, schedule: DiffusionSchedule, x: Tensor, predicted: Tensor, steps: Tensor) -> Tensor:
        return schedule.denoised(x, predicted, steps)


class VelocityPrediction:
    """v = sqrt(abar) eps - sqrt(1 - abar) latent, as in MMAR. Its squared error is 1 / abar times that of the noise."""

    def target(self, schedule: DiffusionSchedule, latents: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        return schedule.at("signal", steps) * noise - schedule.at("noise", steps) * latents

    def denoised(self, schedule: DiffusionSchedule, x: Tensor, predicted: Tensor, steps: Tensor) -> Tensor:
        return schedule.at("signal", steps) * x - schedule.at("noise", steps) * predicted


PREDICTIONS: dict[PredictionName, Prediction] = {"epsilon": EpsilonPrediction(), "v": VelocityPrediction()}
