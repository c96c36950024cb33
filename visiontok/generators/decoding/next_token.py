"""Choosing the next token of every sample: guidance, then filters, then a draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias, TypeVar

from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.noise import Noise
from visiontok.generators.decoding.base import SamplingConfig
from visiontok.generators.decoding.categorical import sample_categorical
from visiontok.generators.decoding.filters import LEAST_TEMPERATURE, Filter, Temperature, TopK, TopP
from visiontok.generators.decoding.guidance import ConstantGuidance, Guidance


@dataclass(frozen=True)
class NextTokenSampler:
    """The strategy of a generator that emits one token per step.

    Attributes:
        guidance: scale of classifier-free guidance at every step.
        filters: applied to the guided logits, in this order.
        by_codebook: filters of each codebook level, instead, where levels are sampled differently.
    """

    guidance: Guidance = field(default_factory=ConstantGuidance)
    filters: tuple[Filter, ...] = ()
    by_codebook: tuple[tuple[Filter, ...], ...] = ()

    def __call__(self, logits: Tensor, noise: Noise, *, codebook: int = 0, step: int = 0) -> Tensor:
        """Draw codes (B,) from guided logits (B, V) of a codebook level at a generation step."""
        for filter_logits in self.by_codebook[codebook] if self.by_codebook else self.filters:
            logits = filter_logits(logits)
        return sample_categorical(logits, noise, step=step)


T = TypeVar("T")
PerCodebook: TypeAlias = T | Annotated[tuple[T, ...], Field(min_length=1)]
"""One number for all codebook levels, or one for each."""


class NextTokenSampling(SamplingConfig):
    """Parameters of `NextTokenSampler`, filtering in the order temperature, top-k, top-p.

    Attributes:
        guidance: constant scale s of `u + s * (c - u)`; 1 is off.
        temperature: divides the logits.
        top_k: codes kept; 0 keeps all.
        top_p: probability kept; 1 keeps all.
    """

    type: Literal["next-token"] = "next-token"
    guidance: float = 1.0
    temperature: PerCodebook[Annotated[float, Field(ge=LEAST_TEMPERATURE)]] = 1.0
    top_k: PerCodebook[Annotated[int, Field(ge=0)]] = 0
    top_p: PerCodebook[Annotated[float, Field(ge=0, le=1)]] = 1.0

    @model_validator(mode="after")
    def _check_lengths(self) -> NextTokenSampling:
        if len(self._lengths) > 1:
            raise ValueError(f"temperature, top_k and top_p name different numbers of codebooks: {sorted(self._lengths)}")
        return self

    @property
    def _lengths(self) -> set[int]:
        return {len(value) for value in (self.temperature, self.top_k, self.top_p) if isinstance(value, tuple)}

    def sampler(self) -> NextTokenSampler:
        """The strategy objects."""
        count = max(self._lengths, default=0)
        guidance = ConstantGuidance(self.guidance)
        if not count:
            return NextTokenSampler(guidance, self._filters(0))
        return NextTokenSampler(guidance, by_codebook=tuple(self._filters(codebook) for codebook in range(count)))

    def _filters(self, codebook: int) -> tuple[Filter, ...]:
        temperature = self.temperature[codebook] if isinstance(self.temperature, tuple) else self.temperature
        top_k = self.top_k[codebook] if isinstance(self.top_k, tuple) else self.top_k
        top_p = self.top_p[codebook] if isinstance(self.top_p, tuple) else self.top_p
        filters: list[Filter] = [Temperature(temperature)]
        if top_k:
            filters.append(TopK(top_k))
        if top_p < 1:
            filters.append(TopP(top_p))
        return tuple(filters)
