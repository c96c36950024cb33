"""Cosine vector quantization of ordered tokens that watches how each position uses the codebook (Selftok, Wang et al. 2025, arXiv 2505.07538)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.quantizers.across_ranks import num_rows, rows_of_global_batch
from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.quantizers.codebook_updates import EmaConfig, EmaUpdate, KMeansConfig, KMeansInit
from visiontok.quantizers.nearest import nearest_codes, nearest_k_codes
from visiontok.quantizers.position_usage import DiversityConfig, PositionUsage
from visiontok.quantizers.straight_through import straight_through


class PositionalVectorConfig(Config):
    """A codebook on the unit sphere and how it learns.

    Attributes:
        codebook_size: K.
        dim: width D of a code.
        num_positions: P tokens per sample.
        commitment_weight: of mean((z - sg(e))^2).
        diversity: the loss that spreads every position over the codebook.
        decay: of the moving averages that the codes are.
        dead_below: a code whose average use is below this share of even use becomes a latent of the batch; 0 for never.
        revived_as: the use that it then starts with, as a share of even use.
        kmeans: how the codebook starts from the first batch.
    """

    type: Literal["positional_vq"] = "positional_vq"
    codebook_size: int = Field(gt=0)
    dim: int = Field(gt=0)
    num_positions: int = Field(gt=0)
    commitment_weight: float = Field(default=1.0, ge=0)
    diversity: DiversityConfig = DiversityConfig()
    decay: float = Field(default=0.99, ge=0, lt=1)
    dead_below: float = Field(default=0.2, ge=0, lt=1)
    revived_as: float = Field(default=0.2, gt=0)
    kmeans: KMeansConfig = KMeansConfig()

    def build(self) -> PositionalVectorQuantizer:
        """The quantizer with a random codebook."""
        return PositionalVectorQuantizer(self)


class PositionalVectorQuantizer(Quantizer):
    """The code with the largest cosine, straight-through, moving averages. Works in float32 whatever the model's type.

    State:
        codebook: (K, D) unit rows.
        ema: see `EmaUpdate`; usage: see `PositionUsage`; kmeans: see `KMeansInit`.
    """

    def __init__(self, config: PositionalVectorConfig) -> None:
        super().__init__()
        self.config = config
        size, dim = config.codebook_size, config.dim
        self.codebook = nn.Parameter(F.normalize(torch.randn(size, dim), dim=1), requires_grad=False)
        self.kmeans = KMeansInit(config.kmeans)
        self.ema = EmaUpdate(EmaConfig(decay=config.decay, unit_codes=True), codebook_size=size, dim=dim)
        self.usage = PositionUsage(config.diversity, num_positions=config.num_positions, codebook_size=size)

    def forward(self, latents: Tensor) -> Quantized:
        """Latents (B, *shape, D) of P positions -> codes (B, *shape, D), ids (B, *shape), weighted losses `commitment`, `diversity`."""
        with torch.autocast(latents.device.type, enabled=False):
            z = F.normalize(latents.float(), dim=-1)
            flat = z.detach().flatten(0, -2)
            passes_through = self.training and self.kmeans.warming_up
            if self.training:
                self._start(flat)
            indices = nearest_codes(flat, self.codebook, score="product").view(z.shape[:-1])
            codes = self.lookup(indices).float()
            losses = {"commitment": self.config.commitment_weight * F.mse_loss(z, codes)}
            if self.training and not passes_through:
                before = self.codebook.detach().clone()
                self._update_codebook(flat, indices.flatten(1))
                losses["diversity"] = self.usage.diversity(z.flatten(1, -2), before)
            stats = {"quantization_error": F.mse_loss(z, codes).detach()}
            if passes_through:
                return Quantized(z.to(latents.dtype), indices, {name: loss * 0 for name, loss in losses.items()}, stats, passed_through=True)
        return Quantized(straight_through(z, codes).to(latents.dtype), indices, losses, stats)

    @torch.no_grad()
    def search(self, latents: Tensor) -> Tensor:
        """Latents (..., D) -> ids (...)."""
        return nearest_codes(latents.float().flatten(0, -2), self.codebook, score="product").view(latents.shape[:-1])

    def lookup(self, indices: Tensor) -> Tensor:
        """Ids (...) -> codes (..., D) of unit length."""
        return F.embedding(indices, self.codebook)

    @torch.no_grad()
    def neighbours(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> the k codes with the largest cosines (..., k)."""
        return nearest_k_codes(latents.float().flatten(0, -2), self.codebook, k, score="product").view(*latents.shape[:-1], k)

    @torch.no_grad()
    def _start(self, latents: Tensor) -> None:
        """Count a training step; at the first one after the warm-up the centres of the latents (B P, D) become the codes."""
        if self.kmeans.step(self.codebook.data, latents):
            self.codebook.copy_(F.normalize(self.codebook, dim=1))

    @torch.no_grad()
    def _update_codebook(self, latents: Tensor, indices: Tensor) -> None:
        """Count, average and revive with latents (B P, D) and their ids (B, P)."""
        self.usage.step(indices)
        self.ema.step(self.codebook.data, latents, indices.flatten())
        rows, _ = num_rows(latents)
        even = rows / self.config.codebook_size
        dead = torch.nonzero(self.ema.counts < self.config.dead_below * even).flatten()
        if not len(dead):
            return
        generator = torch.Generator().manual_seed(int(self.kmeans.steps))  # the same on all ranks, and after a resume
        samples = torch.randint(rows // self.config.num_positions, (len(dead),), generator=generator)
        positions = torch.multinomial(self.usage.narrow_positions().cpu(), len(dead), replacement=True, generator=generator)
        revived = rows_of_global_batch(latents, (samples * self.config.num_positions + positions).to(latents.device))
        self.codebook.data[dead] = revived
        self.ema.restart(dead, revived, count=self.config.revived_as * even)
