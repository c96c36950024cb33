"""Residual quantization (Zeghidour et al. 2021, SoundStream): every level quantizes what the levels before it left."""

from __future__ import annotations

from typing import Literal, cast

import torch
from pydantic import model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.quantizers.base import CodebookQuantizer, Quantized, configured_by
from visiontok.quantizers.gradients import GRADIENTS, Gradient
from visiontok.quantizers.levels import LevelDropoutConfig, ResidualLevels, check_min_levels
from visiontok.quantizers.masks import squared_error, valid_rows, without_padding
from visiontok.quantizers.parts import PointwiseConfig, mean_of


class ResidualQuantizerConfig(Config):
    """Levels of one kind.

    Attributes:
        num_levels: S.
        quantizer: of every level.
        shared: let all levels use one quantizer, as in RQ-VAE (Lee et al. 2022, arXiv 2203.01941).
        gradient: how gradients pass from the sum of the codes to the latents; those of the levels themselves are not used.
        dropout: of levels, in training; None keeps all.
    """

    type: Literal["residual"] = "residual"
    num_levels: Positive
    quantizer: PointwiseConfig
    shared: bool = False
    gradient: Gradient = "straight_through"
    dropout: LevelDropoutConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> ResidualQuantizerConfig:
        check_min_levels(self.dropout, self.num_levels)
        return self

    @property
    def dim(self) -> int:
        """D of the latents."""
        return self.quantizer.dim

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """K of each level."""
        return (self.quantizer.codebook_size,) * self.num_levels

    def build(self) -> ResidualQuantizer:
        """The quantizer with random codebooks."""
        return ResidualQuantizer(**dict(self))


class ResidualQuantizer(ResidualLevels):
    """Latents (B, ..., D) -> the sum of one code per level, indices (B, ..., S). Each loss is the mean over the levels.

    State:
        levels: S quantizers, or one that all levels share.
    """

    @configured_by(ResidualQuantizerConfig)
    def __init__(self, config: ResidualQuantizerConfig) -> None:
        super().__init__(input_dim=config.dim)
        self.config, self.num_levels, self.dropout = config, config.num_levels, config.dropout
        self.levels = nn.ModuleList(config.quantizer.build() for _ in range(1 if config.shared else config.num_levels))

    def quantize(self, latents: Tensor, kept: Tensor, *, mask: Tensor | None = None) -> Quantized:
        """Latents (B, ..., D) of which sample b keeps its first kept[b] levels -> codes (B, ..., D), indices (B, ..., S) of all levels."""
        cuts = bool((kept < self.num_levels).any())
        z = without_padding(latents, mask).float()
        residual, total = z, torch.zeros_like(z)
        found = []
        for index, level in enumerate(self.quantizers()):
            quantized = level(residual, mask=mask)
            codes = quantized.latents.detach()
            residual = residual - codes
            if cuts:
                codes = codes * (index < kept).view(-1, *[1] * (z.ndim - 1))
            total = total + codes
            found.append(quantized)
        rest = valid_rows(residual.detach(), mask)
        losses, stats = mean_of([part.losses for part in found]), {"quantization_error": squared_error(rest, torch.zeros_like(rest))}
        indices = torch.stack([part.indices for part in found if part.indices is not None], dim=-1)
        return Quantized(
            GRADIENTS[self.config.gradient](z, total).to(latents.dtype),
            indices,
            losses,
            stats,
            passed_through=any(part.passed_through for part in found),
            first_level=found[0].latents.to(latents.dtype),
        )

    def quantizers(self) -> list[CodebookQuantizer]:
        """One quantizer per level, a shared one S times."""
        levels = cast("list[CodebookQuantizer]", list(self.levels))
        return levels * self.num_levels if self.config.shared else levels
