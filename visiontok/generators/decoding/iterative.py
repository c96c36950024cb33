"""MaskGIT's iterative decoding: predict all masked tokens at once, keep the most confident, mask the rest again, repeat."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Positive
from visiontok.base.finite import check_finite
from visiontok.base.noise import Noise
from visiontok.generators.decoding.base import SamplingConfig
from visiontok.generators.decoding.guidance import ConstantGuidance, Guidance, LinearGuidance, PowerCosineGuidance

Predict: TypeAlias = Callable[[Tensor, float], Tensor]
"""(tokens (B, L), guidance scale) -> logits (B, L, V)."""


@dataclass(frozen=True)
class IterativeSampler:
    """MaskGIT (arXiv 2202.04200) as TiTok's generators run it (arXiv 2406.07550).

    Attributes:
        num_steps: passes through the network.
        guidance: scale of classifier-free guidance at every step.
        temperature: of the Gumbel noise on tokens and on confidences; falls linearly to 0 at the last step, which takes the most likely tokens.
        annealing: divide the logits by 0.5 + 0.8 * (share of steps left), which sharpens the later steps.
    """

    num_steps: int
    guidance: Guidance
    temperature: float
    annealing: bool

    def is_guided(self, step: int, num_steps: int) -> bool:
        """Whether a step needs logits without the condition."""
        return self.guidance(step, num_steps) != 1

    def __call__(self, predict: Predict, tokens: Tensor, mask_id: int, noise: Noise) -> Tensor:
        """Fill the masked positions of `tokens` (B, L)."""
        for step in self.steps(predict, tokens, mask_id, noise):
            tokens = step
        return tokens

    def steps(self, predict: Predict, tokens: Tensor, mask_id: int, noise: Noise) -> Iterator[Tensor]:
        """The tokens (B, L) after every step; the last ones hold no mask.

        Two draws per step, both uniform: (B, L, V) for the tokens, then (B, L) for the ranking.
        """
        for step in range(self.num_steps):
            progress = (step + 1) / self.num_steps
            noise_scale = self.temperature * (1 - progress)
            logits = predict(tokens, self.guidance(step, self.num_steps)).float()
            check_finite(logits, stage=f"the logits of generation step {step}")
            if self.annealing:
                logits = logits / (0.5 + 0.8 * (1 - progress))
            masked = tokens == mask_id
            sampled = (logits + noise_scale * _gumbel(noise, logits)).argmax(dim=-1)
            confidence = logits.gather(-1, sampled[..., None])[..., 0].masked_fill(~masked, math.inf)
            confidence = confidence + noise_scale * _gumbel(noise, confidence)
            tokens = torch.where(masked, sampled, tokens)
            if progress < 1:
                tokens = tokens.masked_fill(confidence <= _threshold(confidence, masked, progress), mask_id)
            yield tokens


class IterativeSampling(SamplingConfig):
    """Parameters of `IterativeSampler` under the names and meanings of the published commands.

    Attributes:
        num_steps: passes through the network.
        guidance: the published scale g; `constant` and `linear` mean `c + g * (c - u)`, `power-cosine` means `u + g * (c - u)`.
        guidance_schedule: how g grows over the steps.
        guidance_power: exponent of the power-cosine schedule.
        temperature: of the Gumbel noise.
        annealing: sharpen the logits over the steps.
    """

    num_steps: Positive = 8
    guidance: float = 3.0
    guidance_schedule: Literal["constant", "linear", "power-cosine"] = "linear"
    guidance_power: Annotated[float, Field(ge=0)] = 3.0
    temperature: Annotated[float, Field(ge=0)] = 4.5
    annealing: bool = True

    def sampler(self) -> IterativeSampler:
        """The strategy objects."""
        schedules: dict[str, Guidance] = {
            "constant": ConstantGuidance(1 + self.guidance),
            "linear": LinearGuidance(self.guidance),
            "power-cosine": PowerCosineGuidance(self.guidance, self.guidance_power),
        }
        return IterativeSampler(self.num_steps, schedules[self.guidance_schedule], self.temperature, self.annealing)


def mask_ratio(progress: float) -> float:
    """The arccos schedule: the share of tokens still masked at `progress` in [0, 1], from 1 down to 0."""
    return math.acos(progress) / (math.pi / 2)


def _gumbel(noise: Noise, like: Tensor) -> Tensor:
    uniform = noise.uniform(*like.shape).to(like.device)
    return -torch.log((-torch.log(uniform.clamp_min(1e-20))).clamp_min(1e-20))


def _threshold(confidence: Tensor, masked: Tensor, progress: float) -> Tensor:
    """(B, 1): the confidence up to which positions are masked again. The first sample's number of masks sets the batch's, as published."""
    scheduled = math.floor(masked.shape[1] * mask_ratio(progress))
    count = max(1, min(int(masked[0].sum()) - 1, scheduled))
    return confidence.sort(dim=-1).values[:, count - 1 : count]
