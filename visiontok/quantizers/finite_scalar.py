"""Finite scalar quantization (Mentzer et al. 2023, arXiv 2309.15505): every channel is bounded and rounded; there is no codebook to learn."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config
from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.quantizers.nearest import nearest_k_codes

MARGIN = 1e-3
"""By how much the bound exceeds the outermost levels, relative to their distance, so that both can be reached."""


class FiniteScalarConfig(Config):
    """How many values each channel takes.

    Attributes:
        levels: per channel; their product is the vocabulary. The first channel varies fastest along the ids.
    """

    type: Literal["fsq"] = "fsq"
    levels: tuple[Annotated[int, Field(ge=2)], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> FiniteScalarConfig:
        if self.codebook_size >= 2**63:
            raise ValueError(f"{self.codebook_size} codes have no ids of 64 bits; use fewer levels, or several quantizers side by side")
        return self

    @property
    def dim(self) -> int:
        """Width D of a latent."""
        return len(self.levels)

    @property
    def codebook_size(self) -> int:
        """K, the number of ids."""
        return math.prod(self.levels)

    def build(self) -> FiniteScalarQuantizer:
        """The quantizer; it has no weights. Projections to and from D channels are the family's."""
        return FiniteScalarQuantizer(self)


class FiniteScalarQuantizer(Quantizer):
    """Bound, round, straight-through gradient (of the rounding, not of the bound). No loss. Works in float32 whatever the model's type.

    A channel with L levels takes the values (digit - L // 2) / (L // 2), digit = 0 ... L - 1: within [-1, 1], zero among them.
    """

    def __init__(self, config: FiniteScalarConfig) -> None:
        super().__init__()
        self.config = config
        basis = [math.prod(config.levels[:channel]) for channel in range(config.dim)]
        self.register_buffer("_levels", torch.tensor(config.levels), persistent=False)
        self.register_buffer("_basis", torch.tensor(basis), persistent=False)
        # Ids up to 2^24 are exact in float32, whose arithmetic is several times as fast as that of int64.
        self._exact = torch.float32 if config.codebook_size <= 2**24 else torch.int64

    _levels: Tensor
    _basis: Tensor

    def forward(self, latents: Tensor) -> Quantized:
        """Latents (..., D) -> codes (..., D) within [-1, 1] and ids (...)."""
        with torch.autocast(latents.device.type, enabled=False):
            bounded = self.bound(latents.float())
            rounded = bounded.detach().round()
            indices = self._ids(rounded)
            error = rounded.sub_(bounded.detach())
            codes = (bounded + error).mul_(1 / (self._levels // 2))
            stats = {"quantization_error": torch.linalg.vector_norm(error).square() / error.numel()}
        return Quantized(codes.to(latents.dtype), indices, {}, stats)

    def bound(self, latents: Tensor) -> Tensor:
        """(..., D) -> (..., D) in units of levels, so that rounding gives digit - L // 2; zero stays zero."""
        shift, half_width, offset = self._curve()
        return torch.addcmul(-offset, torch.tanh(latents + shift), half_width)

    def lookup(self, indices: Tensor) -> Tensor:
        """Ids (...) -> codes (..., D)."""
        half = self._levels // 2
        digits = torch.div(indices[..., None], self._basis, rounding_mode="floor") % self._levels
        return (digits - half).float() / half

    @torch.no_grad()
    def neighbours(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> the ids (..., k) of the codes nearest to the bounded latent, in units of levels."""
        codes = self.lookup(torch.arange(self.config.codebook_size, device=latents.device)) * (self._levels // 2)
        bounded = self.bound(latents.float()).flatten(0, -2)
        return nearest_k_codes(bounded, codes, k).view(*latents.shape[:-1], k)

    def _curve(self) -> tuple[Tensor, Tensor, Tensor]:
        """Shift, half width and offset of the bound, each (D,) float32 whatever the model's type."""
        half_width = (self._levels - 1) * (1 + MARGIN) / 2
        offset = torch.where(self._levels % 2 == 0, 0.5, 0.0)  # an even number of levels is rounded to lie around -1/2
        return torch.atanh(offset / half_width), half_width, offset

    def _ids(self, rounded: Tensor) -> Tensor:
        zero = (self._levels // 2 * self._basis).sum()
        return (rounded.to(self._exact) * self._basis.to(self._exact)).sum(dim=-1).to(torch.int64) + zero
