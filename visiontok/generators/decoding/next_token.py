"""Choosing the next id of every sample: guidance, then filters, then a draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field
from torch import Tensor

from visiontok.base.noise import Noise
from visiontok.generators.decoding.base import SamplingConfig
from visiontok.generators.decoding.categorical import sample_categorical
from visiontok.generators.decoding.filters import Filter, Temperature, TopK, TopP
from visiontok.generators.decoding.guidance import ConstantGuidance, Guidance


@dataclass(frozen=True)
class NextTokenSampler:
    """The strategy of a generator that emits one id per step.

    Attributes:
        guidance: scale of classifier-free guidance at every step.
        filters: applied to the guided logits, in this order.
    """

    guidance: Guidance = field(default_factory=ConstantGuidance)
    filters: tuple[Filter, ...] = ()

    def __call__(self, logits: Tensor, noise: Noise) -> Tensor:
        """Draw ids (B,) from guided logits (B, V)."""
        for filter_logits in self.filters:
            logits = filter_logits(logits)
        return sample_categorical(logits, noise)


class NextTokenSampling(SamplingConfig):
    """Numbers for `NextTokenSampler`, filtering in the order temperature, top-k, top-p.

    Attributes:
        guidance: constant scale s of `u + s * (c - u)`; 1 is off.
        temperature: divides the logits.
        top_k: ids kept; 0 keeps all.
        top_p: probability kept; 1 keeps all.
    """

    guidance: float = 1.0
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0

    def sampler(self) -> NextTokenSampler:
        """The strategy objects."""
        filters: list[Filter] = [Temperature(self.temperature)]
        if self.top_k:
            filters.append(TopK(self.top_k))
        if self.top_p < 1:
            filters.append(TopP(self.top_p))
        return NextTokenSampler(ConstantGuidance(self.guidance), tuple(filters))
