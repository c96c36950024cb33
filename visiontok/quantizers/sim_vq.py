"""SimVQ (Zhu et al. 2024, arXiv 2411.02038): a frozen random codebook seen through one learned linear map, so that all codes move together."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.quantizers.base import PointwiseQuantizer, Quantized, configured_by
from visiontok.quantizers.float32 import Float32Module
from visiontok.quantizers.gradients import GRADIENTS, Gradient
from visiontok.quantizers.masks import squared_error
from visiontok.quantizers.nearest import nearest_codes, nearest_k_codes


class SimVectorQuantizerConfig(Config):
    """A codebook that learns as a whole.

    Attributes:
        codebook_size: K.
        dim: D of a code.
        gradient: how gradients pass from the codes to the latents; see `gradients`.
        commitment_weight: of mean((z - sg(e))^2), which moves the encoder.
        codebook_weight: of mean((sg(z) - e)^2), which moves the map.
    """

    type: Literal["sim_vq"] = "sim_vq"
    codebook_size: Positive
    dim: Positive
    gradient: Gradient = "straight_through"
    commitment_weight: float = Field(default=0.25, ge=0)
    codebook_weight: float = Field(default=1.0, ge=0)

    def build(self) -> SimVectorQuantizer:
        """The quantizer with a random codebook."""
        return SimVectorQuantizer(**dict(self))


class SimVectorQuantizer(Float32Module, PointwiseQuantizer):
    """Nearest row of (basis W' + b), estimated gradient, commitment and codebook losses. Works in float32 whatever the model's type.

    State:
        basis: (K, D), frozen, normal with the deviation D ** -0.5.
        projection: the learned map W, b.
    """

    basis: Tensor

    @configured_by(SimVectorQuantizerConfig)
    def __init__(self, config: SimVectorQuantizerConfig) -> None:
        super().__init__(input_dim=config.dim)
        self.config = config
        self.register_buffer("basis", torch.randn(config.codebook_size, config.dim, dtype=torch.float32) * config.dim**-0.5)
        self.projection = nn.Linear(config.dim, config.dim, dtype=torch.float32)

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    def quantize_rows(self, latents: Tensor) -> Quantized:
        """Latents (N, D) -> codes (N, D), indices (N,), losses `commitment` and `codebook`, each times its weight."""
        with torch.autocast(latents.device.type, enabled=False):
            z = latents.float()
            indices = nearest_codes(z.detach(), self.codes().detach())
            codes = self.lookup(indices)
            losses = {
                "commitment": self.config.commitment_weight * squared_error(z, codes.detach()),
                "codebook": self.config.codebook_weight * squared_error(codes, z.detach()),
            }
            quantized = GRADIENTS[self.config.gradient](z, codes)
        return Quantized(quantized.to(latents.dtype), indices, losses, {"quantization_error": squared_error(z, codes).detach()})

    @torch.no_grad()
    def search(self, latents: Tensor) -> Tensor:
        """Latents (..., D) -> indices (...)."""
        return nearest_codes(latents.reshape(-1, latents.shape[-1]), self.codes()).view(latents.shape[:-1])

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (...) -> codes (..., D)."""
        return self._projected(F.embedding(self.checked(indices, self.codebook_size), self.basis))

    def codes(self) -> Tensor:
        """All codes (K, D)."""
        return self._projected(self.basis)

    @torch.no_grad()
    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> their k nearest codes (..., k)."""
        return nearest_k_codes(latents.reshape(-1, latents.shape[-1]), self.codes(), k).view(*latents.shape[:-1], k)

    def _projected(self, rows: Tensor) -> Tensor:
        with torch.autocast(rows.device.type, enabled=False):
            return F.linear(rows.float(), self.projection.weight.float(), self.projection.bias.float())
