"""Nested dropout (Rippel et al. 2014; Matryoshka): in training only the first k tokens of a sample are read, so that tokens become ordered. Early
tokens are used with every k, later ones refine them; afterwards any prefix decodes. Here are the schedules that draw k, and the
mask that it stands for. A tokenizer with ordered tokens holds one schedule as `nested_dropout`; a family of fixed length takes one by a line
of its configuration.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.errors import ConfigError
from visiontok.base.noise import NoiseLike, as_noise, integers


class LengthSchedule(Config):
    """How many tokens a sample keeps at a training step."""

    @abstractmethod
    def draw(self, samples: int, longest: int, *, device: torch.device | str = "cpu", noise: NoiseLike = None) -> Tensor:
        """Lengths (samples,) int64 from 1 to `longest`, on `device`; one draw of the noise per sample.

        Raises:
            ConfigError: if the schedule names lengths that a sample of `longest` tokens does not have.
        """


class UniformLengths(LengthSchedule):
    """Every `step`-th length from `shortest` to the longest, equally often: {2, 4, 6, ...} where both are 2."""

    schedule: Literal["uniform"] = "uniform"
    shortest: Positive = 1
    step: Positive = 1

    def draw(self, samples: int, longest: int, *, device: torch.device | str = "cpu", noise: NoiseLike = None) -> Tensor:
        if self.shortest > longest:
            raise ConfigError(f"nested dropout: shortest is {self.shortest}, but there are only {longest} tokens")
        lengths = (longest - self.shortest) // self.step + 1
        return self.shortest + self.step * integers(as_noise(noise, torch.device(device)), lengths, samples)


class PowerLengths(LengthSchedule):
    """1, 2, 4, ... and the longest.

    Attributes:
        draws: "powers": every such length equally often; "rounded": a uniform length, rounded up to the next of them, so that a length comes
            up as often as there are lengths that it stands for.
    """

    schedule: Literal["powers_of_two"] = "powers_of_two"
    draws: Literal["powers", "rounded"] = "powers"

    def draw(self, samples: int, longest: int, *, device: torch.device | str = "cpu", noise: NoiseLike = None) -> Tensor:
        source, exponents = as_noise(noise, torch.device(device)), range((longest - 1).bit_length())
        powers = torch.tensor([*(2**exponent for exponent in exponents), longest], dtype=torch.int64, device=device)
        if self.draws == "powers":
            return powers[integers(source, len(powers), samples)]
        return powers[torch.searchsorted(powers, 1 + integers(source, longest, samples))]


class ListedLengths(LengthSchedule):
    """Some lengths, each as often as its weight says.

    Attributes:
        lengths: which.
        weights: of each; None for equal ones.
    """

    schedule: Literal["listed"] = "listed"
    lengths: tuple[Positive, ...] = Field(min_length=1)
    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> ListedLengths:
        if self.weights is not None and len(self.weights) != len(self.lengths):
            raise ValueError(f"{len(self.weights)} weights for {len(self.lengths)} lengths")
        return self

    def draw(self, samples: int, longest: int, *, device: torch.device | str = "cpu", noise: NoiseLike = None) -> Tensor:
        if max(self.lengths) > longest:
            raise ConfigError(f"nested dropout: a length of {max(self.lengths)} is listed, but there are only {longest} tokens")
        weights = torch.tensor(self.weights or (1.0,) * len(self.lengths), dtype=torch.float64, device=device)
        shares = (weights.cumsum(dim=0) / weights.sum()).to(torch.float32)
        chosen = torch.searchsorted(shares, as_noise(noise, torch.device(device)).uniform(samples), right=True)
        return torch.tensor(self.lengths, dtype=torch.int64, device=device)[chosen.clamp_max(len(self.lengths) - 1)]


NestedDropout = Annotated[UniformLengths | PowerLengths | ListedLengths, Field(discriminator="schedule")]
"""One of the schedules, for a field of a family's configuration."""


def prefix_mask(lengths: Tensor, total: int) -> Tensor:
    """(B, total) bool: True for the first `lengths` (B,) tokens of every sample."""
    return torch.arange(total, dtype=torch.int64, device=lengths.device) < lengths[:, None]
