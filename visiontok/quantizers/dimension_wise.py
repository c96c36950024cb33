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
from visiontok.base.noise import NoiseLike
from visiontok.quantizers.base import NeighborQuantizer, Quantized, configured_by
from visiontok.quantizers.float32 import Float32Module
from visiontok.quantizers.gradients import straight_through
from visiontok.quantizers.masks import at_positions, squared_error, valid_rows
from visiontok.quantizers.nearest import nearest_k_codes

CUT = 3.0
"""Where the normal distribution is cut off, in standard deviations; `range` of the latents is mapped to it."""

MOST_LEVELS = 512
"""Somewhat beyond this the outermost bins lie wholly outside the cut and have no mean."""


class DimensionWiseQuantizerConfig(Config):
    """The values that a scalar can take.

    Attributes:
        levels: how many.
        range: the latents' interval +-range that they are spread over; latents outside become the outermost value.
    """

    type: Literal["dimension_wise"] = "dimension_wise"
    levels: int = Field(default=64, ge=2, le=MOST_LEVELS)
    range: float = Field(default=5.0, gt=0)

    def build(self) -> DimensionWiseQuantizer:
        """The quantizer; it has no weights."""
        return DimensionWiseQuantizer(**dict(self))


class DimensionWiseQuantizer(Float32Module, NeighborQuantizer):
    """Nearest reconstruction value for every scalar; the same table for all dimensions. Straight-through gradient, no loss.

    Works in float32 whatever the model's type.

    State:
        table: (levels,), the latents' values behind the indices, rising; it follows from the configuration and is not saved.
    """

    table: Tensor

    @configured_by(DimensionWiseQuantizerConfig)
    def __init__(self, config: DimensionWiseQuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("table", normal_table(config.levels, config.range), persistent=False)

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """Latents (..., D) -> table values (..., D), indices (..., D)."""
        with torch.autocast(latents.device.type, enabled=False):
            scalars = valid_rows(latents, mask).float()
            indices = self._nearest(scalars)
            quantized = straight_through(scalars, self.lookup(indices))
            stats = {"quantization_error": squared_error(scalars, quantized).detach()}
        shape = latents.shape[:-1]
        return Quantized(at_positions(quantized.to(latents.dtype), shape, mask), at_positions(indices, shape, mask), {}, stats)

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (..., D) -> table values (..., D)."""
        return self.table[self.checked(indices, self.config.levels)]

    @torch.no_grad()
    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> (..., D, k): the indices of the values nearest to each scalar."""
        scalars = latents.float().clamp(-self.config.range, self.config.range).reshape(-1, 1)
        return nearest_k_codes(scalars, self.table[:, None], k).view(*latents.shape, k)

    @torch.no_grad()
    def _nearest(self, scalars: Tensor) -> Tensor:
        """The nearest value of each scalar, the lower one among equals: one of the two that it lies between."""
        above = torch.searchsorted(self.table, scalars.contiguous()).clamp(1, self.config.levels - 1)
        below = above - 1
        to_below, to_above = (scalars.clamp(-self.config.range, self.config.range) - self.table[side] for side in (below, above))
        return torch.where(to_below.abs() <= to_above.abs(), below, above)


def normal_table(levels: int, bound: float) -> Tensor:
    """(levels,) float32, rising: the means of a normal distribution within bins of equal probability, cut off at +-CUT deviations = +-bound.

    Computed in float64 and rounded once: special functions differ between processors in their last bits, and the tokens must not.
    The published table of 64 values is computed in float32 and differs by less than 1e-5.
    """
    edges = torch.special.ndtri(torch.arange(levels + 1, dtype=torch.float64) / levels).clamp(-CUT, CUT)
    density = torch.exp(-edges.square() / 2) / math.sqrt(2 * math.pi)
    cumulative = torch.erf(edges / math.sqrt(2)) / 2
    means = (density[:-1] - density[1:]) / (cumulative[1:] - cumulative[:-1])
    return ((means - means.flip(0)) / 2 * (bound / CUT)).float()
