"""Vector quantization (van den Oord et al. 2017): each latent becomes its nearest code."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.quantizers.codebook_updates import (
    ClusteringConfig,
    ClusteringUpdate,
    EmaConfig,
    EmaUpdate,
    KMeansConfig,
    KMeansInit,
    Revival,
    RevivalConfig,
)
from visiontok.quantizers.gradients import GRADIENTS, Gradient
from visiontok.quantizers.nearest import nearest_codes, nearest_k_codes
from visiontok.quantizers.soft_assignment import CodebookEntropyConfig, assignment_entropies


class VectorQuantizerConfig(Config):
    """A codebook and how it learns.

    Attributes:
        codebook_size: K.
        dim: width D of a code.
        normalize_latents: put latents on the unit sphere before the search.
        normalize_codes: put codes on the unit sphere at every use; they are stored as they are.
        raw_lookup: let the decoder read codes as they are stored, also where the search normalises them.
        gradient: how gradients pass from the codes to the latents; see `gradients`.
        commitment_weight: of mean((z - sg(e))^2), which moves the encoder.
        codebook_weight: of mean((sg(z) - e)^2), which moves the codes; without effect when they are moving averages.
        entropy: entropy terms of the softmax over negative squared distances, in training; None without them.
        kmeans, ema, revival, clustering: updates other than by gradient; see `codebook_updates`.
    """

    type: Literal["vq"] = "vq"
    codebook_size: int = Field(gt=0)
    dim: int = Field(gt=0)
    normalize_latents: bool = False
    normalize_codes: bool = False
    raw_lookup: bool = False
    gradient: Gradient = "straight_through"
    commitment_weight: float = Field(default=0.25, ge=0)
    codebook_weight: float = Field(default=1.0, ge=0)
    entropy: CodebookEntropyConfig | None = None
    kmeans: KMeansConfig | None = None
    ema: EmaConfig | None = None
    revival: RevivalConfig | None = None
    clustering: ClusteringConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> VectorQuantizerConfig:
        if self.ema is not None and self.normalize_codes:
            raise ValueError("moving averages of latents are not unit vectors: use ema without normalize_codes")
        if self.clustering is not None and (self.ema is not None or self.revival is not None):
            raise ValueError("clustering moves unused codes by itself, and moving averages would undo it: use it without ema and revival")
        return self

    def build(self) -> VectorQuantizer:
        """The quantizer with a random codebook."""
        return VectorQuantizer(self)


class VectorQuantizer(Quantizer):
    """Nearest code, estimated gradient, commitment and codebook losses. Works in float32 whatever the model's type.

    State:
        codebook: (K, D), uniform in +-1/K at first.
    """

    def __init__(self, config: VectorQuantizerConfig) -> None:
        super().__init__()
        self.config = config
        size, dim = config.codebook_size, config.dim
        self.codebook = nn.Parameter(torch.empty(size, dim).uniform_(-1 / size, 1 / size), requires_grad=config.ema is None)
        self.kmeans = KMeansInit(config.kmeans) if config.kmeans else None
        self.ema = EmaUpdate(config.ema, codebook_size=size, dim=dim) if config.ema else None
        self.revival = Revival(config.revival, codebook_size=size) if config.revival else None
        self.clustering = ClusteringUpdate(config.clustering, codebook_size=size) if config.clustering else None

    def forward(self, latents: Tensor) -> Quantized:
        """Latents (..., D) -> codes (..., D), ids (...), losses `commitment`, `codebook` and in training `entropy`, each times its weight."""
        with torch.autocast(latents.device.type, enabled=False):
            z = self._searched(latents).view(latents.shape)
            flat = z.detach().flatten(0, -2)
            passes_through = self.training and self.kmeans is not None and self.kmeans.warming_up
            if self.training and self.kmeans is not None:
                self.kmeans.step(self.codebook, flat)
            indices = nearest_codes(flat, self._codes())
            codes = self.lookup(indices.view(z.shape[:-1])).float()
            losses = {"commitment": self.config.commitment_weight * F.mse_loss(z, codes.detach())}
            if self.ema is None:
                losses["codebook"] = self.config.codebook_weight * F.mse_loss(codes, z.detach())
            if self.training and self.config.entropy is not None:
                losses["entropy"] = self._entropy(z.flatten(0, -2), self.config.entropy)
            if passes_through:
                losses = {name: loss * 0 for name, loss in losses.items()}
            stats = {"quantization_error": F.mse_loss(z, codes).detach()}
            if self.training and not passes_through:
                self._update_codebook(latents.detach().float().flatten(0, -2), flat, indices)
            quantized = z if passes_through else GRADIENTS[self.config.gradient](z, codes)
        return Quantized(quantized.to(latents.dtype), indices.view(z.shape[:-1]), losses, stats, passed_through=passes_through)

    @torch.no_grad()
    def search(self, latents: Tensor) -> Tensor:
        """Latents (..., D) -> ids (...)."""
        return nearest_codes(self._searched(latents), self._codes()).view(latents.shape[:-1])

    def lookup(self, indices: Tensor) -> Tensor:
        """Ids (...) -> codes (..., D), on the unit sphere where codes are normalised."""
        codes = F.embedding(indices, self.codebook)
        return F.normalize(codes, dim=-1) if self.config.normalize_codes and not self.config.raw_lookup else codes

    @torch.no_grad()
    def neighbours(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> their k nearest codes (..., k), in the space of the search."""
        return nearest_k_codes(self._searched(latents), self._codes(), k).view(*latents.shape[:-1], k)

    def _searched(self, latents: Tensor) -> Tensor:
        """Latents (..., D) as rows (N, D) in the space of the search."""
        z = latents.float().flatten(0, -2)
        return F.normalize(z, dim=-1) if self.config.normalize_latents else z

    def _codes(self) -> Tensor:
        """The codebook (K, D) in the space of the search."""
        codes = self.codebook.detach()
        return F.normalize(codes.float(), dim=-1) if self.config.normalize_codes else codes

    def _entropy(self, latents: Tensor, config: CodebookEntropyConfig) -> Tensor:
        codes = self.codebook.float()
        codes = F.normalize(codes, dim=-1) if self.config.normalize_codes else codes
        return config.loss(*assignment_entropies(latents, codes, scale=2 / config.temperature, score="distance"))

    def _update_codebook(self, latents: Tensor, searched: Tensor, indices: Tensor) -> None:
        """Latents (N, D) as they came, the same in the space of the search, and their ids (N,)."""
        codebook = self.codebook.data
        if self.clustering is not None:
            self.clustering.step(codebook, latents, indices, codes=self._codes().float(), searched=searched)
        if self.ema is not None:
            self.ema.step(codebook, searched, indices)
        if self.revival is not None:
            revived, rows = self.revival.step(codebook, searched, indices)
            if self.ema is not None:
                self.ema.restart(revived, rows)
