"""Cosine vector quantization of ordered tokens that watches how each position uses the codebook (Selftok, Wang et al. 2025, arXiv 2505.07538)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.base.noise import NoiseLike
from visiontok.quantizers.across_ranks import num_rows, rows_of_global_batch, share_of_mean, stack_over_ranks
from visiontok.quantizers.base import CodebookQuantizer, Quantized, configured_by
from visiontok.quantizers.codebook_updates import Ema, EmaConfig, KMeans, KMeansConfig
from visiontok.quantizers.float32 import Float32Module
from visiontok.quantizers.gradients import straight_through
from visiontok.quantizers.masks import squared_error, valid_rows, without_padding
from visiontok.quantizers.nearest import nearest_codes, nearest_k_codes
from visiontok.quantizers.position_usage import PositionUsage, PositionUsageConfig


class PositionalVectorQuantizerConfig(Config):
    """A codebook on the unit sphere and how it learns.

    Attributes:
        codebook_size: K.
        dim: D of a code.
        num_positions: P tokens per sample.
        commitment_weight: of mean((z - sg(e))^2).
        diversity: the loss that spreads every position over the codebook.
        decay: of the moving averages that the codes are.
        dead_below: a code whose average use is below this share of even use becomes a latent of the batch; 0 for never.
        reset_usage: the use that it then starts with, as a share of even use.
        kmeans: how the codebook starts from the first batch.
    """

    type: Literal["positional_vq"] = "positional_vq"
    codebook_size: Positive
    dim: Positive
    num_positions: Positive
    commitment_weight: float = Field(default=1.0, ge=0)
    diversity: PositionUsageConfig = PositionUsageConfig()
    decay: float = Field(default=0.99, ge=0, lt=1)
    dead_below: float = Field(default=0.2, ge=0, lt=1)
    reset_usage: float = Field(default=0.2, gt=0)
    kmeans: KMeansConfig = KMeansConfig()

    def build(self) -> PositionalVectorQuantizer:
        """The quantizer with a random codebook."""
        return PositionalVectorQuantizer(**dict(self))


class PositionalVectorQuantizer(Float32Module, CodebookQuantizer):
    """The code with the largest cosine, straight-through, moving averages. Works in float32 whatever the model's type.

    State:
        codebook: (K, D) unit rows.
        ema: see `Ema`; usage: see `PositionUsage`; kmeans: see `KMeans`.
    """

    @configured_by(PositionalVectorQuantizerConfig)
    def __init__(self, config: PositionalVectorQuantizerConfig) -> None:
        super().__init__(input_dim=config.dim)
        self.config = config
        size, dim = config.codebook_size, config.dim
        self.codebook = nn.Parameter(F.normalize(torch.randn(size, dim, dtype=torch.float32), dim=1), requires_grad=False)
        self.kmeans = KMeans(config.kmeans)
        self.ema = Ema(EmaConfig(decay=config.decay, unit_codes=True), codebook_size=size, dim=dim)
        self.usage = PositionUsage(config.diversity, num_positions=config.num_positions, codebook_size=size)

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """Latents (B, *shape, D) of P positions -> codes (B, *shape, D), indices (B, *shape), weighted losses `commitment`, `diversity`."""
        with torch.autocast(latents.device.type, enabled=False):
            z = F.normalize(without_padding(latents, mask).float(), dim=-1)
            rows = valid_rows(z, mask)
            updates = self.training and num_rows(rows)[0] > 0
            passes_through = self.training and self.kmeans.warming_up
            if updates and self.kmeans.step(self.codebook.data, rows.detach()):
                self.codebook.data.copy_(F.normalize(self.codebook, dim=1))
            indices = self.search(z) if mask is None else self.search(z).masked_fill(~mask, 0)
            codes = without_padding(self.lookup(indices).float(), mask)
            share = None if mask is None else share_of_mean(mask.sum())
            error = squared_error(rows, valid_rows(codes, mask)) * (1.0 if share is None else share)
            losses, stats = {"commitment": self.config.commitment_weight * error}, {"quantization_error": error.detach()}
            if self.training and not passes_through:
                before, flat_mask = self.codebook.detach().clone(), None if mask is None else mask.flatten(1)
                if updates:
                    self._update_codebook(z.detach().flatten(1, -2), indices.flatten(1), flat_mask)
                losses["diversity"] = self.usage.diversity(z.flatten(1, -2), before, flat_mask)
            if passes_through:
                return Quantized(z.to(latents.dtype), indices, {name: loss * 0 for name, loss in losses.items()}, stats, passed_through=True)
        return Quantized(straight_through(z, codes).to(latents.dtype), indices, losses, stats)

    @torch.no_grad()
    def search(self, latents: Tensor) -> Tensor:
        """Latents (..., D) -> indices (...)."""
        return nearest_codes(latents.float().reshape(-1, self.config.dim), self.codebook, score="product").view(latents.shape[:-1])

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (...) -> codes (..., D) of unit length."""
        return F.embedding(self.checked(indices, self.codebook_size), self.codebook)

    @torch.no_grad()
    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> the k codes with the largest cosines (..., k)."""
        rows = latents.float().reshape(-1, self.config.dim)
        return nearest_k_codes(rows, self.codebook, k, score="product").view(*latents.shape[:-1], k)

    @torch.no_grad()
    def _update_codebook(self, latents: Tensor, indices: Tensor, mask: Tensor | None) -> None:
        """Count, average and reset with latents (B, P, D) and their indices (B, P), where mask (B, P)."""
        self.usage.step(indices, mask)
        valid = torch.ones_like(indices, dtype=torch.bool) if mask is None else mask
        self.ema.step(self.codebook.data, latents[valid], indices[valid])
        # Position after position, so that the latents of one position are neighbors.
        rows, counts = latents.transpose(0, 1)[valid.T], valid.sum(dim=0)
        total, _ = num_rows(rows)
        even = total / self.config.codebook_size
        dead = torch.nonzero(self.ema.counts < self.config.dead_below * even).flatten()
        if not len(dead):
            return
        replaced = rows_of_global_batch(rows, self._picks(stack_over_ranks(counts).cpu(), len(dead)).to(rows.device))
        self.codebook.data[dead] = replaced
        self.ema.restart(dead, replaced, count=self.config.reset_usage * even)

    def _picks(self, counts: Tensor, picks: int) -> Tensor:
        """Which latents of the global batch dead codes become: first a position, narrow ones more often, then one of its latents.

        Args:
            counts: (R, P): latents of every rank at every position. They lie rank after rank, and on a rank position after position.
            picks: M.

        Returns:
            (M,) rows of the global batch.
        """
        generator = torch.Generator().manual_seed(int(self.kmeans.steps))  # the same on all ranks, and after a resume
        at_position = counts.sum(dim=0)
        odds = self.usage.narrow_positions().cpu() * (at_position > 0)
        positions = torch.multinomial(odds, picks, replacement=True, generator=generator)
        uniform = torch.rand(picks, generator=generator, dtype=torch.float64)
        member = (uniform * at_position[positions]).long()  # among that position's latents on all ranks
        before = counts.cumsum(dim=0) - counts
        ranks = (member >= before[:, positions] + counts[:, positions]).sum(dim=0)
        starts = (counts.flatten().cumsum(dim=0) - counts.flatten()).view_as(counts)
        return starts[ranks, positions] + member - before[ranks, positions]
