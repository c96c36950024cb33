"""Post-training quantization of continuous latents, one dimension at a time (Wang et al. 2025, TokenBridge, arXiv 2503.16430).

Every scalar becomes one of a few values that suit a normal distribution cut off at three standard deviations. Nothing is trained.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Config
from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.quantizers.nearest import nearest_k_codes
from visiontok.quantizers.straight_through import straight_through

CUT = 3.0
"""Where the normal distribution is cut off, in standard deviations; `range` of the latents is mapped to it."""

MOST_LEVELS = 512
"""Somewhat beyond this the bins are so narrow that the float32 table no longer rises."""


class DimensionWiseConfig(Config):
    """The values that a scalar can take.

    Attributes:
        levels: how many.
        range: the latents' interval +-range that they are spread over; what lies outside becomes the outermost value.
    """

    type: Literal["dimension_wise"] = "dimension_wise"
    levels: int = Field(default=64, ge=2, le=MOST_LEVELS)
    range: float = Field(default=5.0, gt=0)

    def build(self) -> DimensionWiseQuantizer:
        """The quantizer; it has no weights."""
        return DimensionWiseQuantizer(self)


class DimensionWiseQuantizer(Quantizer):
    """Nearest reconstruction value for every scalar; the same table for all dimensions. Straight-through gradient, no loss.

    Works in float32 whatever the model's type.
    """

    def __init__(self, config: DimensionWiseConfig) -> None:
        super().__init__()
        self.config = config
        # The bits of float32 numbers: unlike those themselves, they stay as they are when the model goes to another type.
        self.register_buffer("_centroid_bits", normal_centroids(config.levels).view(torch.int32), persistent=False)

    _centroid_bits: Tensor

    @property
    def table(self) -> Tensor:
        """(levels,) float32: the latents' values behind the ids, rising."""
        return (self._centroids + CUT) / (2 * CUT) * (2 * self.config.range) - self.config.range

    def forward(self, latents: Tensor) -> Quantized:
        """Latents (..., D) -> table values (..., D), ids (..., D)."""
        with torch.autocast(latents.device.type, enabled=False):
            scalars = latents.float()
            indices = self._nearest(self._standardised(scalars))
            quantized = straight_through(scalars, self.lookup(indices))
            stats = {"quantization_error": (scalars - quantized).detach().square().mean()}
        return Quantized(quantized.to(latents.dtype), indices, {}, stats)

    def lookup(self, indices: Tensor) -> Tensor:
        """Ids (..., D) -> table values (..., D)."""
        return self.table[indices]

    @torch.no_grad()
    def neighbours(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> (..., D, k): the ids of the values nearest to each scalar."""
        scalars = self._standardised(latents.float()).reshape(-1, 1)
        return nearest_k_codes(scalars, self._centroids[:, None], k).view(*latents.shape, k)

    @property
    def _centroids(self) -> Tensor:
        return self._centroid_bits.view(torch.float32)

    def _standardised(self, scalars: Tensor) -> Tensor:
        """+-range to +-CUT, by the authors' steps, so that roundings are theirs too."""
        unit = (scalars + self.config.range) / (2 * self.config.range)
        return (unit * (2 * CUT) - CUT).clamp(-CUT, CUT)

    @torch.no_grad()
    def _nearest(self, standardised: Tensor) -> Tensor:
        """The nearest centroid of each scalar, the lower one among equals: one of the two that it lies between."""
        centroids = self._centroids
        above = torch.searchsorted(centroids, standardised.contiguous()).clamp(1, self.config.levels - 1)
        below = above - 1
        to_below, to_above = (standardised - centroids[side] for side in (below, above))
        return torch.where(to_below.abs() <= to_above.abs(), below, above)


def normal_centroids(levels: int) -> Tensor:
    """(levels,) float32, rising: the means of a standard normal distribution within bins of equal probability, cut off at +-CUT.

    Quantiles are computed in float64 and rounded, the rest in float32: then the table equals the published one bit for bit.
    """
    quantiles = torch.special.ndtri(torch.linspace(0, 1, levels + 1).double()).float()
    bounds = quantiles.clamp(-CUT, CUT)
    density = torch.exp(-bounds.square() / 2) / math.sqrt(2 * math.pi)
    cumulative = 0.5 * (1 + torch.erf(bounds / math.sqrt(2)))
    mass = cumulative[1:] - cumulative[:-1]
    return (density[:-1] - density[1:]) / torch.where(mass == 0, 1e-10, mass)
