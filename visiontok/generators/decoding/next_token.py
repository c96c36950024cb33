"""Choosing the next token of every sample: guidance, then filters, then a draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Positive
from visiontok.base.finite import FiniteSteps
from visiontok.base.noise import Noise
from visiontok.generators.decoding.base import SamplingConfig
from visiontok.generators.decoding.categorical import most_likely, sample_categorical
from visiontok.generators.decoding.filters import LEAST_TEMPERATURE, EntropyTopK, Filter, MinP, Temperature, TopK, TopP
from visiontok.generators.decoding.guidance import ConstantGuidance, Guidance, GuidanceSchedule, guidance_schedule, guide


@dataclass(frozen=True)
class NextTokenSampler:
    """The strategy of a generator that emits tokens step by step.

    Attributes:
        guidance: scale of classifier-free guidance at every step.
        filters: applied to the guided logits, in this order.
        by_codebook: of each codebook level, instead, where levels are sampled differently.
    """

    guidance: Guidance = field(default_factory=ConstantGuidance)
    filters: tuple[Filter, ...] = ()
    by_codebook: tuple[NextTokenSampler, ...] = ()

    def of(self, codebook: int) -> NextTokenSampler:
        """The strategy for one codebook level."""
        return self.by_codebook[codebook] if self.by_codebook else self

    def is_guided(self, step: int, num_steps: int) -> bool:
        """Whether any codebook level needs logits without the condition at a step."""
        return any(sampler.guidance(step, num_steps) != 1 for sampler in self.by_codebook or (self,))

    def filtered(self, logits: Tensor, unconditional: Tensor | None, *, codebook: int, step: int, num_steps: int) -> Tensor:
        """Guided and filtered logits (B, V) of a codebook level at a step, from those with and without the condition."""
        own = self.of(codebook)
        return _filtered(own._guided(logits, unconditional, step, num_steps), own.filters)

    def _guided(self, logits: Tensor, unconditional: Tensor | None, step: int, num_steps: int) -> Tensor:
        scale = self.guidance(step, num_steps)
        return logits if unconditional is None or scale == 1 else guide(logits, unconditional, scale)

    def choose(
        self,
        logits: Tensor,
        unconditional: Tensor | None,
        noise: Noise,
        *,
        codebook: int,
        step: int,
        num_steps: int,
        finite: FiniteSteps | None = None,
    ) -> Tensor:
        """Choose codes (B,) likewise: one exponential draw (B, V), or none where `TopK(1)` leaves only the most likely code. See `probabilities` for
        `finite` and for what is refused."""
        own = self.of(codebook)
        guided = own._guided(logits, unconditional, step, num_steps)
        if TopK(1) in own.filters:  # the most likely code is the same without it
            return most_likely(_filtered(guided, [each for each in own.filters if each != TopK(1)]), step=step, finite=finite)
        return sample_categorical(_filtered(guided, own.filters), noise, step=step, finite=finite)


def _filtered(logits: Tensor, filters: Sequence[Filter]) -> Tensor:
    for filter_logits in filters:
        logits = filter_logits(logits)
    return logits


T = TypeVar("T")
PerCodebook: TypeAlias = T | Annotated[tuple[T, ...], Field(min_length=1)]
"""One number for all codebook levels, or one for each."""


class NextTokenSampling(SamplingConfig):
    """Parameters of `NextTokenSampler`, filtering in the order entropy top-k, temperature, top-k, top-p, min-p.

    Attributes:
        guidance: scale s of `u + s * (c - u)`; 1 is off.
        guidance_schedule: how the scale changes over the steps.
        guidance_power: exponent of the schedule `power-cosine`.
        guidance_interval: the share of the steps that are guided, from and to; the others have scale 1 (arXiv 2404.07724).
        entropy_top_k: the smallest and the largest number of codes that `EntropyTopK` keeps; None is off.
        temperature: divides the logits.
        top_k: codes kept; 0 keeps all.
        top_p: probability kept; 1 keeps all.
        min_p: least probability kept, relative to that of the most likely code (arXiv 2407.01082); 0 keeps all.
    """

    type: Literal["next-token"] = "next-token"
    guidance: PerCodebook[float] = 1.0
    guidance_schedule: GuidanceSchedule = "constant"
    guidance_power: Annotated[float, Field(ge=0)] = 3.0
    guidance_interval: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = (0.0, 1.0)
    entropy_top_k: tuple[Positive, Positive] | None = None
    temperature: PerCodebook[Annotated[float, Field(ge=LEAST_TEMPERATURE)]] = 1.0
    top_k: PerCodebook[Annotated[int, Field(ge=0)]] = 0
    top_p: PerCodebook[Annotated[float, Field(ge=0, le=1)]] = 1.0
    min_p: PerCodebook[Annotated[float, Field(ge=0, le=1)]] = 0.0

    @model_validator(mode="after")
    def _check(self) -> NextTokenSampling:
        if len(self._lengths) > 1:
            raise ValueError(f"guidance, temperature, top_k, top_p and min_p name different numbers of codebooks: {sorted(self._lengths)}")
        if self.entropy_top_k is not None and self.entropy_top_k[0] > self.entropy_top_k[1]:
            raise ValueError(f"entropy_top_k {self.entropy_top_k} must not decrease")
        if self.guidance_interval[0] > self.guidance_interval[1]:
            raise ValueError(f"guidance_interval {self.guidance_interval} must not end before it begins")
        return self

    @property
    def _lengths(self) -> set[int]:
        values = (self.guidance, self.temperature, self.top_k, self.top_p, self.min_p)
        return {len(value) for value in values if isinstance(value, tuple)}

    def sampler(self) -> NextTokenSampler:
        """The strategy objects."""
        count = max(self._lengths, default=0)
        if not count:
            return self._of(0)
        return NextTokenSampler(by_codebook=tuple(self._of(codebook) for codebook in range(count)))

    def _of(self, codebook: int) -> NextTokenSampler:
        def own(value: Any) -> Any:
            return value[codebook] if isinstance(value, tuple) else value

        guidance = guidance_schedule(self.guidance_schedule, own(self.guidance), power=self.guidance_power, interval=self.guidance_interval)
        filters: list[Filter] = [] if self.entropy_top_k is None else [EntropyTopK(*self.entropy_top_k)]
        filters.append(Temperature(own(self.temperature)))
        if own(self.top_k):
            filters.append(TopK(own(self.top_k)))
        if own(self.top_p) < 1:
            filters.append(TopP(own(self.top_p)))
        if own(self.min_p) > 0:
            filters.append(MinP(own(self.min_p)))
        return NextTokenSampler(guidance, tuple(filters))
