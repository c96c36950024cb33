"""Vector quantization (van den Oord et al. 2017): each latent becomes its nearest code."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.config import Config
from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.quantizers.codebook_updates import EmaConfig, EmaUpdate, KMeansConfig, KMeansInit, Revival, RevivalConfig
from visiontok.quantizers.nearest import nearest_codes
from visiontok.quantizers.straight_through import straight_through


class VectorQuantizerConfig(Config):
    """A codebook and how it learns.

    Attributes:
        codebook_size: K.
        dim: width D of a code.
        normalize_latents: put latents on the unit sphere before the search.
        normalize_codes: put codes on the unit sphere at every use; they are stored as they are.
        commitment_weight: of mean((z - sg(e))^2), which moves the encoder.
        codebook_weight: of mean((sg(z) - e)^2), which moves the codes; without effect when they are moving averages.
        kmeans, ema, revival: updates other than by gradient; see `codebook_updates`.
    """

    type: Literal["vq"] = "vq"
    codebook_size: int = Field(gt=0)
    dim: int = Field(gt=0)
    normalize_latents: bool = False
    normalize_codes: bool = False
    commitment_weight: float = Field(default=0.25, ge=0)
    codebook_weight: float = Field(default=1.0, ge=0)
    kmeans: KMeansConfig | None = None
    ema: EmaConfig | None = None
    revival: RevivalConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> VectorQuantizerConfig:
        if self.ema is not None and self.normalize_codes:
            raise ValueError("moving averages of latents are not unit vectors: use ema without normalize_codes")
        return self

    def build(self) -> VectorQuantizer:
        """The quantizer with a random codebook."""
        return VectorQuantizer(self)


class VectorQuantizer(Quantizer):
    """Nearest code, straight-through gradient, commitment and codebook losses. Works in float32 whatever the model's type.

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

    def forward(self, latents: Tensor) -> Quantized:
        """Latents (..., D) -> codes (..., D), ids (...), losses `commitment` and `codebook`, each times its weight."""
        with torch.autocast(latents.device.type, enabled=False):
            z = latents.float()
            if self.config.normalize_latents:
                z = F.normalize(z, dim=-1)
            flat = z.detach().flatten(0, -2)
            passes_through = self.training and self.kmeans is not None and self.kmeans.warming_up
            if self.training and self.kmeans is not None:
                self.kmeans.step(self.codebook, flat)
            indices = nearest_codes(flat, self._codes())
            codes = self.lookup(indices.view(z.shape[:-1])).float()
            losses = {"commitment": self.config.commitment_weight * F.mse_loss(z, codes.detach())}
            if self.ema is None:
                losses["codebook"] = self.config.codebook_weight * F.mse_loss(codes, z.detach())
            if passes_through:
                losses = {name: loss * 0 for name, loss in losses.items()}
            stats = {"quantization_error": F.mse_loss(z, codes).detach()}
            if self.training and not passes_through:
                self._update_codebook(flat, indices)
            quantized = z if passes_through else straight_through(z, codes)
        return Quantized(quantized.to(latents.dtype), indices.view(z.shape[:-1]), losses, stats)

    def lookup(self, indices: Tensor) -> Tensor:
        """Ids (...) -> codes (..., D), on the unit sphere where codes are normalised."""
        codes = F.embedding(indices, self.codebook)
        return F.normalize(codes, dim=-1) if self.config.normalize_codes else codes

    def _codes(self) -> Tensor:
        codes = self.codebook.detach()
        return F.normalize(codes.float(), dim=-1) if self.config.normalize_codes else codes

    def _update_codebook(self, latents: Tensor, indices: Tensor) -> None:
        codebook = self.codebook.data
        if self.ema is not None:
            self.ema.step(codebook, latents, indices)
        if self.revival is not None:
            revived, rows = self.revival.step(codebook, latents, indices)
            if self.ema is not None:
                self.ema.restart(revived, rows)
