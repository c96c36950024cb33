"""Masked autoregressive decoding: a random order per sample, several positions per step, more of them later (MAR, arXiv 2406.11838)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Positive
from visiontok.base.finite import check_finite
from visiontok.base.noise import Noise
from visiontok.generators.condition import Condition
from visiontok.generators.decoding.base import SamplingConfig
from visiontok.generators.decoding.filters import LEAST_TEMPERATURE
from visiontok.generators.decoding.guidance import ConstantGuidance, Guidance, LinearGuidance
from visiontok.generators.decoding.next_token import NextTokenSampler, NextTokenSampling
from visiontok.generators.heads.diffusion import DiffusionHead

if TYPE_CHECKING:
    from visiontok.generators.base import GeneratorConfig


@dataclass(frozen=True)
class MaskedStep:
    """One step of the decoding of a batch.

    Attributes:
        number: of the step, from 0.
        mask: (B, L) bool, True at the positions that are unknown before the step.
        positions: (B, M) int64, those that the step fills in, rising.
        scale: of classifier-free guidance.
    """

    number: int
    mask: Tensor
    positions: Tensor
    scale: float

    @property
    def is_guided(self) -> bool:
        """Whether the step needs what the backbone gives without the condition."""
        return self.scale != 1


@dataclass(frozen=True)
class MaskedSchedule:
    """Which positions every step fills in.

    Attributes:
        num_steps: of decoding; those beyond the number of positions fill in nothing.
        guidance: scale after k of L positions, as that of step k in range(L). The last step counts as L - 1.
    """

    num_steps: int
    guidance: Guidance

    def counts(self, length: int) -> list[int]:
        """The positions that stay unknown after every step: L cos(pi / 2 * share of steps done), at least one fewer than before."""
        counts, unknown = [], length
        for step in range(self.num_steps):
            unknown = max(1, min(unknown - 1, math.floor(length * math.cos(math.pi / 2 * (step + 1) / self.num_steps))))
            counts.append(unknown)
        return [*counts[:-1], 0]

    def scales(self, length: int) -> list[float]:
        """The scale of guidance of every step."""
        return [float(self.guidance(length - max(1, count), length)) for count in self.counts(length)]

    def steps(self, order: Tensor) -> Iterator[MaskedStep]:
        """The steps that fill in something.

        Args:
            order: (B, L) int64, a permutation of the positions of every sample; its last entries are filled in first.
        """
        samples, length = order.shape
        mask = torch.ones(samples, length, dtype=torch.bool, device=order.device)
        unknown = length
        for number, (count, scale) in enumerate(zip(self.counts(length), self.scales(length), strict=True)):
            if count < unknown:
                positions = order[:, count:unknown].sort(dim=1).values
                yield MaskedStep(number, mask, positions, scale)
                mask, unknown = mask.scatter(1, positions, False), count


class MaskedLatentModel(Protocol):
    """A generator that fills in masked latents."""

    head: DiffusionHead

    @property
    def config(self) -> GeneratorConfig:
        """With the layout and the tokenizer."""

    @property
    def num_positions(self) -> int:
        """L."""

    @property
    def device(self) -> torch.device:
        """Of its parameters."""

    def checked_condition(self, condition: Condition, *, samples: int | None) -> tuple[Condition, int]:
        """See `Generator.checked_condition`."""

    def check_sampler(self, sampler: Any, *, unconditional: bool) -> None:
        """See `Generator.check_sampler`."""

    def hidden(self, values: Tensor, step: MaskedStep, condition: Condition) -> tuple[Tensor, Tensor | None]:
        """What the head reads at the step's positions, (B, M, D), with the condition and, if the step is guided, without it.

        Args:
            values: (B, L, C), ignored at unknown positions.
            step: which positions are unknown and which are filled in.
            condition: of every sample.
        """


@dataclass(frozen=True)
class MaskedLatentSampler:
    """The strategy of MAR.

    Attributes:
        schedule: of the positions.
        respacing: steps of the diffusion that samples a latent; see `kept_steps`.
        temperature: of the noise of these steps.
    """

    schedule: MaskedSchedule
    respacing: str
    temperature: float

    def is_guided(self, step: int, num_steps: int) -> bool:
        """Whether step `step` needs what the backbone gives without the condition, as if `num_steps` positions were filled in one by one."""
        return self.schedule.guidance(step, num_steps) != 1

    def __call__(self, model: MaskedLatentModel, condition: Condition, samples: int, noise: Noise) -> Tensor:
        """Latents (B, L, C) float32.

        Draws: a permutation (B, L); per step with M positions, normal (B, M, C) for the start and for every step of the diffusion but the last.
        """
        order = noise.permutation(samples, model.num_positions).to(model.device)
        values = torch.zeros(*order.shape, model.head.channels, dtype=torch.float32, device=model.device)
        for step in self.schedule.steps(order):
            drawn = model.head.sample(
                *model.hidden(values, step, condition),
                noise,
                steps=self.respacing,
                guidance=step.scale,
                temperature=self.temperature,
            )
            check_finite(drawn, stage=f"the latents of generation step {step.number}")
            values = write(values, step.positions, drawn)
        return values


FillIn: TypeAlias = Callable[[Tensor, MaskedStep, NextTokenSampler], Tensor]
"""Tokens (B, L, K), the step, the strategy for single tokens -> codes (B, M, K) of the step's positions."""


@dataclass(frozen=True)
class MaskedTokenSampler:
    """The same decoding for codes: TokenBridge's (arXiv 2503.16430).

    Attributes:
        schedule: of the positions; its guidance is that of the features that the head reads.
        tokens: filters for single tokens.
    """

    schedule: MaskedSchedule
    tokens: NextTokenSampler

    def is_guided(self, step: int, num_steps: int) -> bool:
        """Whether step `step` needs what the backbone gives without the condition, as if `num_steps` positions were filled in one by one."""
        return self.schedule.guidance(step, num_steps) != 1

    def __call__(self, fill_in: FillIn, tokens: Tensor, noise: Noise) -> Tensor:
        """Fill in all positions of tokens (B, L, K); draws a permutation (B, L), then those of `fill_in`."""
        order = noise.permutation(*tokens.shape[:2]).to(tokens.device)
        for step in self.schedule.steps(order):
            tokens = write(tokens, step.positions, fill_in(tokens, step, self.tokens))
        return tokens


def write(values: Tensor, positions: Tensor, drawn: Tensor) -> Tensor:
    """A copy of (B, L, C) with (B, M, C) at positions (B, M)."""
    return values.scatter(1, positions[..., None].expand_as(drawn), drawn)


class MaskedSampling(SamplingConfig):
    """What both samplers share, under the meanings of the published commands.

    Attributes:
        num_steps: passes through the backbone.
        guidance: scale s of `u + s * (c - u)`; 1 is off.
        guidance_schedule: `linear` from 1 to s with the share of known positions, or `constant`.
    """

    num_steps: Positive = 256
    guidance: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    guidance_schedule: Literal["linear", "constant"] = "linear"

    @property
    def schedule(self) -> MaskedSchedule:
        """The schedule of the positions."""
        is_linear = self.guidance_schedule == "linear"
        return MaskedSchedule(self.num_steps, LinearGuidance(self.guidance - 1) if is_linear else ConstantGuidance(self.guidance))


class MaskedLatentSampling(MaskedSampling):
    """Parameters of `MaskedLatentSampler`.

    Attributes:
        diffusion_steps: of the head: a number, or a respacing such as "ddim50".
        temperature: of the noise of these steps.
    """

    diffusion_steps: Positive | str = "100"
    temperature: Annotated[float, Field(ge=0)] = 1.0

    def sampler(self) -> MaskedLatentSampler:
        """The strategy objects."""
        return MaskedLatentSampler(self.schedule, str(self.diffusion_steps), self.temperature)


class MaskedTokenSampling(MaskedSampling):
    """Parameters of `MaskedTokenSampler`; filters in the order temperature, top-k, top-p.

    Attributes:
        temperature: divides the logits.
        top_k: codes kept; 0 keeps all, 1 takes the most likely.
        top_p: probability kept; 1 keeps all.
    """

    temperature: Annotated[float, Field(ge=LEAST_TEMPERATURE)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0

    def sampler(self) -> MaskedTokenSampler:
        """The strategy objects."""
        tokens = NextTokenSampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)
        return MaskedTokenSampler(self.schedule, tokens.sampler())
