"""MaskGIT's iterative decoding: predict all masked tokens at once, keep the most confident, mask the rest again, repeat."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
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
from visiontok.generators.decoding.categorical import sample_categorical
from visiontok.generators.decoding.guidance import ConstantGuidance, Guidance, LinearGuidance, PowerCosineGuidance, RampGuidance

Predict: TypeAlias = Callable[[Tensor, float], Tensor]
"""(tokens (B, L), guidance scale) -> logits (B, L, V)."""


@dataclass(frozen=True)
class IterativeSampler(ABC):
    """The loop; what a rule decides is how codes are chosen, how confident they are, and how many are masked again.

    Attributes:
        num_steps: passes through the network.
        guidance: scale of classifier-free guidance at every step.
        temperature: of the Gumbel noise; falls linearly to 0 at the last step.
    """

    num_steps: int
    guidance: Guidance
    temperature: float

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

        Draws at every step: those of `choose`, then a uniform one (B, L) for the ranking.
        """
        for step in range(self.num_steps):
            progress = (step + 1) / self.num_steps
            noise_scale = self.temperature * (1 - progress)
            logits = predict(tokens, self.guidance(step, self.num_steps)).float()
            check_finite(logits, stage=f"the logits of generation step {step}")
            masked = tokens == mask_id
            sampled, confidence = self.choose(logits, noise, progress=progress, noise_scale=noise_scale)
            confidence = confidence.masked_fill(~masked, math.inf)
            confidence = confidence + noise_scale * _gumbel(noise, confidence)
            tokens = torch.where(masked, sampled, tokens)
            if progress < 1:
                tokens = tokens.masked_fill(confidence <= _threshold(confidence, masked, self.masked_share(progress)), mask_id)
            yield tokens

    @abstractmethod
    def choose(self, logits: Tensor, noise: Noise, *, progress: float, noise_scale: float) -> tuple[Tensor, Tensor]:
        """Codes (B, L) for all positions, and how confident they are (B, L).

        Args:
            logits: (B, L, V), guided.
            noise: source of the draws.
            progress: the share of the steps that are done after this one.
            noise_scale: temperature of this step.
        """

    @abstractmethod
    def masked_share(self, progress: float) -> float:
        """The share of tokens still masked after a step, from 1 down to 0."""


@dataclass(frozen=True)
class TiTokSampler(IterativeSampler):
    """The rule of TiTok's generators (arXiv 2406.07550): noisy logits decide, and the arccos schedule masks again.

    One uniform draw (B, L, V) per step chooses; the last step takes the most likely tokens.

    Attributes:
        annealing: divide the logits by 0.5 + 0.8 * (share of steps left), which sharpens the later steps.
    """

    annealing: bool

    def choose(self, logits: Tensor, noise: Noise, *, progress: float, noise_scale: float) -> tuple[Tensor, Tensor]:
        if self.annealing:
            logits = logits / (0.5 + 0.8 * (1 - progress))
        sampled = (logits + noise_scale * _gumbel(noise, logits)).argmax(dim=-1)
        return sampled, logits.gather(-1, sampled[..., None])[..., 0]

    def masked_share(self, progress: float) -> float:
        return mask_ratio(progress)


@dataclass(frozen=True)
class MaskGITSampler(IterativeSampler):
    """The rule of MaskGIT (arXiv 2202.04200) and of ELM's masked generators: codes are drawn from their probabilities at every step.

    One exponential draw (B, L, V) per step chooses; the confidence is the log-probability of the chosen code; the cosine schedule masks again.
    """

    def choose(self, logits: Tensor, noise: Noise, *, progress: float, noise_scale: float) -> tuple[Tensor, Tensor]:
        sampled = sample_categorical(logits, noise)
        return sampled, logits.log_softmax(dim=-1).gather(-1, sampled[..., None])[..., 0]

    def masked_share(self, progress: float) -> float:
        return math.cos(math.pi / 2 * progress)


class TiTokSampling(SamplingConfig):
    """Parameters of `TiTokSampler` under the names and meanings of the published commands.

    Attributes:
        num_steps: passes through the network.
        guidance: the published scale g; `constant` and `linear` mean `c + g * (c - u)`, `power-cosine` means `u + g * (c - u)`.
        guidance_schedule: how g grows over the steps.
        guidance_power: exponent of the power-cosine schedule.
        temperature: of the Gumbel noise.
        annealing: sharpen the logits over the steps.
    """

    type: Literal["titok"] = "titok"
    num_steps: Positive = 8
    guidance: float = 3.0
    guidance_schedule: Literal["constant", "linear", "power-cosine"] = "linear"
    guidance_power: Annotated[float, Field(ge=0)] = 3.0
    temperature: Annotated[float, Field(ge=0)] = 4.5
    annealing: bool = True

    def sampler(self) -> TiTokSampler:
        """The strategy objects."""
        schedules: dict[str, Guidance] = {
            "constant": ConstantGuidance(1 + self.guidance),
            "linear": LinearGuidance(self.guidance),
            "power-cosine": PowerCosineGuidance(self.guidance, self.guidance_power),
        }
        return TiTokSampler(self.num_steps, schedules[self.guidance_schedule], self.temperature, self.annealing)


class MaskGITSampling(SamplingConfig):
    """Parameters of `MaskGITSampler`.

    Attributes:
        num_steps: passes through the network.
        guidance: the largest scale s of `u + s * (c - u)`; 1 is off.
        guidance_schedule: how s grows over the steps, with r = (step + 1) / num_steps.
        guidance_power: exponent of the power-cosine schedule.
        temperature: of the Gumbel noise on confidences.
    """

    type: Literal["maskgit"] = "maskgit"
    num_steps: Positive = 10
    guidance: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    guidance_schedule: Literal["constant", "linear", "power-cosine"] = "constant"
    guidance_power: Annotated[float, Field(ge=0)] = 3.0
    temperature: Annotated[float, Field(ge=0)] = 1.0

    def sampler(self) -> MaskGITSampler:
        """The strategy objects."""
        guidance: Guidance = (
            ConstantGuidance(self.guidance)
            if self.guidance_schedule == "constant"
            else RampGuidance(self.guidance, self.guidance_schedule, self.guidance_power)
        )
        return MaskGITSampler(self.num_steps, guidance, self.temperature)


def mask_ratio(progress: float) -> float:
    """The arccos schedule: the share of tokens still masked at `progress` in [0, 1], from 1 down to 0."""
    return math.acos(progress) / (math.pi / 2)


def _gumbel(noise: Noise, like: Tensor) -> Tensor:
    uniform = noise.uniform(*like.shape).to(like.device)
    return -torch.log((-torch.log(uniform.clamp_min(1e-20))).clamp_min(1e-20))


def _threshold(confidence: Tensor, masked: Tensor, share: float) -> Tensor:
    """(B, 1): the confidence up to which positions are masked again. The first sample's number of masks sets the batch's, as published."""
    scheduled = math.floor(masked.shape[1] * share)
    count = max(1, min(int(masked[0].sum()) - 1, scheduled))
    return confidence.sort(dim=-1).values[:, count - 1 : count]
