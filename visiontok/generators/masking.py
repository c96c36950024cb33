"""Which tokens a masked generator hides in training."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.noise import Noise, integers


class Masking(Config):
    """A rule for the masks of a training batch."""

    @abstractmethod
    def mask(self, samples: int, length: int, noise: Noise) -> Tensor:
        """(B, L) bool: the tokens to hide, at least one per sample; two uniform draws, (B,) for their number and (B, L) for which."""


class ArccosMasking(Masking):
    """A share of every sample, by the arccos of a uniform draw (MaskGIT, arXiv 2202.04200, as TiTok trains it)."""

    type: Literal["arccos"] = "arccos"

    def mask(self, samples: int, length: int, noise: Noise) -> Tensor:
        ratio = (torch.acos(noise.uniform(samples)) / (torch.pi / 2)).clamp(1e-6, 1)
        count = (length * ratio).round().clamp(min=1)
        return noise.uniform(samples, length).argsort(dim=-1) < count[:, None]


class CosineStepMasking(Masking):
    """The share that sampling hides at a drawn one of its steps, cos(pi step / (2 steps)), for the whole batch (ELM, arXiv 2410.16257).

    The first sample's draw is that of the batch, as in ELM's training, so the loss depends on how a batch is divided.

    Attributes:
        steps: of sampling.
    """

    type: Literal["cosine-step"] = "cosine-step"
    steps: Positive = 10

    def mask(self, samples: int, length: int, noise: Noise) -> Tensor:
        step = int(integers(noise, self.steps, samples)[0])
        count = max(1, math.floor(length * math.cos(math.pi / 2 * step / self.steps)))
        return noise.uniform(samples, length).argsort(dim=-1).argsort(dim=-1) < count


MaskingConfig = Annotated[ArccosMasking | CosineStepMasking, Field(discriminator="type")]
"""One of the rules, for a field of a configuration."""
