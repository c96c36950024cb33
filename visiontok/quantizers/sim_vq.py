"""SimVQ (Zhu et al. 2024, arXiv 2411.02038): a frozen random codebook seen through one learned linear map, so that all codes move together."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.quantizers.gradients import GRADIENTS, Gradient
from visiontok.quantizers.nearest import nearest_codes, nearest_k_codes


class SimVqConfig(Config):
    """A codebook that learns as a whole.

    Attributes:
        codebook_size: K.
        dim: width D of a code.
        gradient: how gradients pass from the codes to the latents; see `gradients`.
        commitment_weight: of mean((z - sg(e))^2), which moves the encoder.
        codebook_weight: of mean((sg(z) - e)^2), which moves the map.
    """

    type: Literal["sim_vq"] = "sim_vq"
    codebook_size: int = Field(gt=0)
    dim: int = Field(gt=0)
    gradient: Gradient = "straight_through"
    commitment_weight: float = Field(default=0.25, ge=0)
    codebook_weight: float = Field(default=1.0, ge=0)

    def build(self) -> SimVq:
        """The quantizer with a random codebook."""
        return SimVq(self)


class SimVq(Quantizer):
    """Nearest row of (basis W' + b), estimated gradient, commitment and codebook losses. Works in float32 whatever the model's type.

    State:
        basis: (K, D), frozen, normal with the deviation D ** -0.5.
        projection: the learned map W, b.
    """

    basis: Tensor

    def __init__(self, config: SimVqConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("basis", torch.randn(config.codebook_size, config.dim) * config.dim**-0.5)
        self.projection = nn.Linear(config.dim, config.dim)

    def forward(self, latents: Tensor) -> Quantized:
        """Latents (..., D) -> codes (..., D), ids (...), losses `commitment` and `codebook`, each times its weight."""
        indices = self.search(latents)
        with torch.autocast(latents.device.type, enabled=False):
            z, codes = latents.float(), self.lookup(indices).float()
            losses = {
                "commitment": self.config.commitment_weight * F.mse_loss(z, codes.detach()),
                "codebook": self.config.codebook_weight * F.mse_loss(codes, z.detach()),
            }
            quantized = GRADIENTS[self.config.gradient](z, codes)
        return Quantized(quantized.to(latents.dtype), indices, losses, {"quantization_error": F.mse_loss(z, codes).detach()})

    @torch.no_grad()
    def search(self, latents: Tensor) -> Tensor:
        """Latents (..., D) -> ids (...)."""
        return nearest_codes(latents.flatten(0, -2), self._codes()).view(latents.shape[:-1])

    def lookup(self, indices: Tensor) -> Tensor:
        """Ids (...) -> codes (..., D)."""
        return self.projection(F.embedding(indices, self.basis))

    @torch.no_grad()
    def neighbours(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> their k nearest codes (..., k)."""
        return nearest_k_codes(latents.flatten(0, -2), self._codes(), k).view(*latents.shape[:-1], k)

    def _codes(self) -> Tensor:
        """All codes (K, D)."""
        return self.projection(self.basis)
