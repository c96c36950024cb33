"""Factorized codes (Yu et al. 2022, arXiv 2110.04627): the search is by cosines and in a few dimensions, between two linear layers."""

from __future__ import annotations

from typing import Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.quantizers.base import CodebookQuantizer, PointwiseQuantizer, Quantized, configured_by
from visiontok.quantizers.float32 import Float32Module
from visiontok.quantizers.gradients import straight_through
from visiontok.quantizers.levels import LevelDropoutConfig, ResidualLevels, check_min_levels
from visiontok.quantizers.masks import squared_error, valid_rows, without_padding
from visiontok.quantizers.nearest import nearest_codes, nearest_k_codes


class FactorizedVectorQuantizerConfig(Config):
    """A codebook of few dimensions.

    Attributes:
        codebook_size: K.
        dim: D of the latents.
        codebook_dim: d of a code, to which and from which linear layers lead; None for codes of D dimensions without such layers.
        commitment_weight: of mean((z - sg(e))^2), which moves the encoder; z is the projected latent.
        codebook_weight: of mean((sg(z) - e)^2), which moves the codes.
    """

    type: Literal["factorized_vq"] = "factorized_vq"
    codebook_size: Positive
    dim: Positive
    codebook_dim: Positive | None = 8
    commitment_weight: float = Field(default=0.25, ge=0)
    codebook_weight: float = Field(default=1.0, ge=0)

    def build(self) -> FactorizedVectorQuantizer:
        """The quantizer with random weights."""
        return FactorizedVectorQuantizer(**dict(self))


class FactorizedVectorQuantizer(Float32Module, PointwiseQuantizer):
    """The code whose angle to the projected latent is least, as it is stored; lengths count in the losses only. The search is in float32.

    State:
        project_in, project_out: linear layers D -> d and d -> D, or nothing.
        codebook: (K, d).
    """

    @configured_by(FactorizedVectorQuantizerConfig)
    def __init__(self, config: FactorizedVectorQuantizerConfig) -> None:
        super().__init__(input_dim=config.dim)
        self.config = config
        dim = config.codebook_dim
        self.project_in = nn.Identity() if dim is None else nn.Linear(config.dim, dim, dtype=torch.float32)
        self.project_out = nn.Identity() if dim is None else nn.Linear(dim, config.dim, dtype=torch.float32)
        self.codebook = nn.Parameter(torch.empty(config.codebook_size, dim or config.dim, dtype=torch.float32).normal_())

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    def quantize_rows(self, latents: Tensor) -> Quantized:
        """Latents (N, D) -> what the decoder reads (N, D), indices (N,), losses `commitment` and `codebook`, each times its weight."""
        with torch.autocast(latents.device.type, enabled=False):
            z = self.projected(latents)
            indices = nearest_codes(F.normalize(z.detach(), dim=-1), self._directions())
            codes = F.embedding(indices, self.codebook)
            losses = {
                "commitment": self.config.commitment_weight * squared_error(z, codes.detach()),
                "codebook": self.config.codebook_weight * squared_error(codes, z.detach()),
            }
            read = _linear(self.project_out, straight_through(z, codes))
        return Quantized(read.to(latents.dtype), indices, losses, {"quantization_error": squared_error(z, codes).detach()})

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (...) -> what the decoder reads (..., D)."""
        return _linear(self.project_out, F.embedding(self.checked(indices, self.codebook_size), self.codebook))

    @torch.no_grad()
    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> the k codes of the least angles (..., k)."""
        z = F.normalize(self.projected(latents), dim=-1)
        return nearest_k_codes(z.flatten(0, -2), self._directions(), k).view(*latents.shape[:-1], k)

    def projected(self, latents: Tensor) -> Tensor:
        """(..., D) -> (..., d) float32, in which the codes are."""
        return _linear(self.project_in, latents).float()

    def _directions(self) -> Tensor:
        """(K, d)."""
        return F.normalize(self.codebook.detach(), dim=-1)


class FactorizedResidualQuantizerConfig(Config):
    """Levels of factorized codes (Kumar et al. 2023, arXiv 2306.06546).

    Attributes:
        codebook_sizes: K of each level.
        dim, codebook_dim, commitment_weight, codebook_weight: of every level; see `FactorizedVectorQuantizerConfig`.
        dropout: of levels, in training; None keeps all.
    """

    type: Literal["factorized_residual"] = "factorized_residual"
    codebook_sizes: tuple[Positive, ...] = Field(min_length=1)
    dim: Positive
    codebook_dim: Positive | None = 8
    commitment_weight: float = Field(default=0.25, ge=0)
    codebook_weight: float = Field(default=1.0, ge=0)
    dropout: LevelDropoutConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> FactorizedResidualQuantizerConfig:
        check_min_levels(self.dropout, len(self.codebook_sizes))
        return self

    def build(self) -> FactorizedResidualQuantizer:
        """The quantizer with random weights."""
        return FactorizedResidualQuantizer(**dict(self))


class FactorizedResidualQuantizer(ResidualLevels):
    """Latents (B, ..., D) -> the sum of what the levels give, indices (B, ..., S). Gradients pass through every level; losses add up over them.

    State:
        levels: S factorized quantizers.
    """

    @configured_by(FactorizedResidualQuantizerConfig)
    def __init__(self, config: FactorizedResidualQuantizerConfig) -> None:
        super().__init__(input_dim=config.dim)
        self.config, self.num_levels, self.dropout = config, len(config.codebook_sizes), config.dropout
        self.levels = nn.ModuleList(
            FactorizedVectorQuantizer(
                codebook_size=size,
                dim=config.dim,
                codebook_dim=config.codebook_dim,
                commitment_weight=config.commitment_weight,
                codebook_weight=config.codebook_weight,
            )
            for size in config.codebook_sizes
        )

    def quantize(self, latents: Tensor, kept: Tensor, *, mask: Tensor | None = None) -> Quantized:
        """Latents (B, ..., D) of which sample b keeps its first kept[b] levels -> (B, ..., D), indices (B, ..., S) of all levels."""
        cuts = bool((kept < self.num_levels).any())
        residual = without_padding(latents, mask).float()
        total, found = torch.zeros_like(residual), []
        for index, level in enumerate(self.quantizers()):
            quantized = level(residual, mask=mask)
            residual = residual - quantized.latents
            keeps = (index < kept).view(-1, *[1] * (latents.ndim - 1)) if cuts else None
            total = total + (quantized.latents if keeps is None else quantized.latents * keeps)
            found.append(quantized)
        losses = {name: torch.stack([part.losses[name] for part in found]).sum() for name in found[0].losses}
        rest = valid_rows(residual.detach(), mask)
        stats = {"quantization_error": squared_error(rest, torch.zeros_like(rest))}
        return Quantized(total.to(latents.dtype), torch.stack([part.indices for part in found], dim=-1), losses, stats)

    def quantizers(self) -> list[CodebookQuantizer]:
        """See `ResidualLevels`."""
        return cast("list[CodebookQuantizer]", list(self.levels))


def _linear(layer: nn.Module, values: Tensor) -> Tensor:
    """Through a linear layer in the type of its weights; the values themselves where there is none."""
    result: Tensor = layer(values.to(layer.weight.dtype)) if isinstance(layer, nn.Linear) else values
    return result
