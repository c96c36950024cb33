"""Vector quantization (van den Oord et al. 2017): each latent becomes its nearest code."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.quantizers.across_ranks import num_rows
from visiontok.quantizers.base import PointwiseQuantizer, Quantized, configured_by
from visiontok.quantizers.codebook_updates import (
    Clustering,
    ClusteringConfig,
    DeadCodeReset,
    DeadCodeResetConfig,
    Ema,
    EmaConfig,
    KMeans,
    KMeansConfig,
)
from visiontok.quantizers.float32 import Float32Module
from visiontok.quantizers.gradients import GRADIENTS, Gradient
from visiontok.quantizers.masks import squared_error
from visiontok.quantizers.nearest import nearest_codes, nearest_k_codes, score_offsets
from visiontok.quantizers.soft_assignment import CodebookEntropyConfig, assignment_entropies


class VectorQuantizerConfig(Config):
    """A codebook and how it learns.

    Attributes:
        codebook_size: K.
        dim: D of a code.
        normalize_latents: put latents on the unit sphere before the search.
        normalize_codes: put codes on the unit sphere at every use; they are stored as they are.
        raw_lookup: let the decoder read codes as they are stored, also where the search normalizes them.
        gradient: how gradients pass from the codes to the latents; see `gradients`.
        commitment_weight: of mean((z - sg(e))^2), which moves the encoder.
        codebook_weight: of mean((sg(z) - e)^2), which moves the codes; without effect when they are moving averages.
        entropy: entropy terms of the softmax over negative squared distances, in training; None without them.
        kmeans, ema, dead_code_reset, clustering: updates other than by gradient; see `codebook_updates`.
    """

    type: Literal["vq"] = "vq"
    codebook_size: Positive
    dim: Positive
    normalize_latents: bool = False
    normalize_codes: bool = False
    raw_lookup: bool = False
    gradient: Gradient = "straight_through"
    commitment_weight: float = Field(default=0.25, ge=0)
    codebook_weight: float = Field(default=1.0, ge=0)
    entropy: CodebookEntropyConfig | None = None
    kmeans: KMeansConfig | None = None
    ema: EmaConfig | None = None
    dead_code_reset: DeadCodeResetConfig | None = None
    clustering: ClusteringConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> VectorQuantizerConfig:
        if self.ema is not None and self.normalize_codes:
            raise ValueError("moving averages of latents are not unit vectors: use ema without normalize_codes")
        if self.clustering is not None and (self.ema is not None or self.dead_code_reset is not None):
            raise ValueError("clustering moves unused codes by itself, and moving averages would undo it: use it without ema and dead_code_reset")
        return self

    def build(self) -> VectorQuantizer:
        """The quantizer with a random codebook."""
        return VectorQuantizer(**dict(self))


class VectorQuantizer(Float32Module, PointwiseQuantizer):
    """Nearest code, estimated gradient, commitment and codebook losses. Works in float32 whatever the model's type.

    State:
        codebook: (K, D), uniform in +-1/K at first.
    """

    @configured_by(VectorQuantizerConfig)
    def __init__(self, config: VectorQuantizerConfig) -> None:
        super().__init__(input_dim=config.dim)
        self.config = config
        size, dim = config.codebook_size, config.dim
        start = torch.empty(size, dim, dtype=torch.float32).uniform_(-1 / size, 1 / size)
        self.codebook = nn.Parameter(start, requires_grad=config.ema is None)
        self.kmeans = KMeans(config.kmeans) if config.kmeans else None
        self.ema = Ema(config.ema, codebook_size=size, dim=dim) if config.ema else None
        self.dead_code_reset = DeadCodeReset(config.dead_code_reset, codebook_size=size) if config.dead_code_reset else None
        self.clustering = Clustering(config.clustering, codebook_size=size) if config.clustering else None

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    def quantize_rows(self, latents: Tensor) -> Quantized:
        """Latents (N, D) -> codes (N, D), indices (N,), losses `commitment`, `codebook` and in training `entropy`, each times its weight."""
        with torch.autocast(latents.device.type, enabled=False):
            z = self._searched(latents)
            updates = self.training and self._has_updates and num_rows(latents)[0] > 0
            passes_through = self.training and self.kmeans is not None and self.kmeans.warming_up
            if updates and self.kmeans is not None:
                self.kmeans.step(self.codebook.data, z.detach())
            indices = nearest_codes(z.detach(), self._codes())
            codes = self.lookup(indices).float()
            losses = {"commitment": self.config.commitment_weight * squared_error(z, codes.detach())}
            if self.ema is None:
                losses["codebook"] = self.config.codebook_weight * squared_error(codes, z.detach())
            if self.training and self.config.entropy is not None:
                losses["entropy"] = self._entropy(z, self.config.entropy)
            if passes_through:
                losses = {name: loss * 0 for name, loss in losses.items()}
            stats = {"quantization_error": squared_error(z, codes).detach()}
            if updates and not passes_through:
                self._update_codebook(latents.detach().float(), z.detach(), indices)
            quantized = z if passes_through else GRADIENTS[self.config.gradient](z, codes)
        return Quantized(quantized.to(latents.dtype), indices, losses, stats, passed_through=passes_through)

    @torch.no_grad()
    def search(self, latents: Tensor) -> Tensor:
        """Latents (..., D) -> indices (...)."""
        return nearest_codes(self._searched(latents), self._codes()).view(latents.shape[:-1])

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (...) -> codes (..., D), on the unit sphere where codes are normalized."""
        codes = F.embedding(self.checked(indices, self.codebook_size), self.codebook)
        return F.normalize(codes, dim=-1) if self.config.normalize_codes and not self.config.raw_lookup else codes

    @torch.no_grad()
    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> their k nearest codes (..., k), in the space of the search."""
        return nearest_k_codes(self._searched(latents), self._codes(), k).view(*latents.shape[:-1], k)

    @torch.no_grad()
    def soft_codes(self, latents: Tensor, *, temperature: float) -> Tensor:
        """Latents (..., D) -> softmax(-|z - e|^2 / temperature) over the codes (..., K), in the space of the search; for `soft_lookup`."""
        with torch.autocast(latents.device.type, enabled=False):
            codes = self._codes()
            scores = torch.addmm(score_offsets(codes, "distance"), self._searched(latents), codes.T)
            return (scores * (2 / temperature)).softmax(dim=-1).view(*latents.shape[:-1], len(codes))

    @property
    def _has_updates(self) -> bool:
        return any(update is not None for update in (self.kmeans, self.ema, self.dead_code_reset, self.clustering))

    def _searched(self, latents: Tensor) -> Tensor:
        """Latents (..., D) as rows (N, D) in the space of the search."""
        z = latents.float().reshape(-1, latents.shape[-1])
        return F.normalize(z, dim=-1) if self.config.normalize_latents else z

    def _codes(self) -> Tensor:
        """The codebook (K, D) in the space of the search."""
        codes = self.codebook.detach().float()
        return F.normalize(codes, dim=-1) if self.config.normalize_codes else codes

    def _entropy(self, latents: Tensor, config: CodebookEntropyConfig) -> Tensor:
        codes = self.codebook.float().clone()  # the backward pass reads it again, after the codebook was updated
        codes = F.normalize(codes, dim=-1) if self.config.normalize_codes else codes
        return config.loss(*assignment_entropies(latents, codes, scale=2 / config.temperature, score="distance"))

    def _update_codebook(self, latents: Tensor, searched: Tensor, indices: Tensor) -> None:
        """Latents (N, D) as they came, the same in the space of the search, and their indices (N,)."""
        codebook = self.codebook.data
        if self.clustering is not None:
            self.clustering.step(codebook, latents, indices, codes=self._codes(), searched=searched)
        if self.ema is not None:
            self.ema.step(codebook, searched, indices)
        if self.dead_code_reset is not None:
            replaced, rows = self.dead_code_reset.step(codebook, searched, indices)
            if self.ema is not None:
                self.ema.restart(replaced, rows)
