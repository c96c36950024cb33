"""Stochastic vector quantization (LARP, Wang et al. 2024, arXiv 2410.21264, section 3.2): the code is drawn, the nearer the likelier."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.base.noise import Noise, NoiseLike, as_noise
from visiontok.quantizers.base import CodebookQuantizer, Quantized, configured_by, of_all_ranks
from visiontok.quantizers.float32 import Float32Module
from visiontok.quantizers.gradients import straight_through
from visiontok.quantizers.masks import at_positions, squared_error, valid_rows, without_padding
from visiontok.quantizers.nearest import nearest_codes, nearest_k_codes

SAMPLE_SCORES = 2**20
"""Scores (positions x codes) of one sample in memory at once. The draws come in parts of this size too, so it is the same on every device."""


class StochasticVectorQuantizerConfig(Config):
    """A codebook on the unit sphere, and how its codes are drawn.

    Attributes:
        codebook_size: K.
        dim: D of a code.
        temperature: divides the cosines before the softmax.
        commitment_weight: of mean((z - sg(e))^2), which moves the encoder.
        codebook_weight: of mean((sg(z) - e)^2), which moves the codes.
    """

    type: Literal["svq"] = "svq"
    codebook_size: Positive
    dim: Positive
    temperature: float = Field(default=0.03, gt=0)
    commitment_weight: float = Field(default=0.25, ge=0)
    codebook_weight: float = Field(default=1.0, ge=0)

    def build(self) -> StochasticVectorQuantizer:
        """The quantizer with a random codebook."""
        return StochasticVectorQuantizer(**dict(self))


class StochasticVectorQuantizer(Float32Module, CodebookQuantizer):
    """k ~ softmax(cos(z, e_k) / temperature) with straight-through gradients, in float32 whatever the model's type.

    It draws in training, and in evaluation where noise is given; otherwise it takes the code with the largest cosine.

    State:
        codebook: (K, D), stored at any length, on the unit sphere at first; codes are normalized at every use.
    """

    @configured_by(StochasticVectorQuantizerConfig)
    def __init__(self, config: StochasticVectorQuantizerConfig) -> None:
        super().__init__(input_dim=config.dim)
        self.config = config
        self.codebook = nn.Parameter(F.normalize(torch.randn(config.codebook_size, config.dim, dtype=torch.float32), dim=-1))

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    @property
    def is_stochastic(self) -> bool:
        return True

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """Latents (B, ..., D) -> unit codes (B, ..., D), indices (B, ...), losses `commitment` and `codebook`, each times its weight."""
        config, shape = self.config, latents.shape[:-1]
        with torch.autocast(latents.device.type, enabled=False):
            z = F.normalize(without_padding(latents, mask).float(), dim=-1)
            codebook = self._codes()
            if self.training or noise is not None:
                sequences = z.detach().reshape(*shape[:1], math.prod(shape[1:]), config.dim) if shape else z.detach()[None, None]
                found = drawn_codes(sequences, codebook, temperature=config.temperature, noise=as_noise(noise, latents.device)).view(shape)
            else:
                found = nearest_codes(z.detach().reshape(-1, config.dim), codebook, score="product").view(shape)
            rows, indices = valid_rows(z, mask), found.flatten() if mask is None else found[mask]
            codes = self.lookup(indices).float()
            losses = {
                "commitment": config.commitment_weight * squared_error(rows, codes.detach()),
                "codebook": config.codebook_weight * squared_error(codes, rows.detach()),
            }
            stats = {"quantization_error": squared_error(rows, codes).detach()}
            quantized = Quantized(straight_through(rows, codes).to(latents.dtype), indices, losses, stats)
        quantized = of_all_ranks(quantized, None if mask is None else mask.sum())
        return Quantized(at_positions(quantized.latents, shape, mask), at_positions(indices, shape, mask), quantized.losses, quantized.stats)

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (...) -> codes (..., D) on the unit sphere."""
        return F.normalize(F.embedding(self.checked(indices, self.codebook_size), self.codebook), dim=-1)

    @torch.no_grad()
    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> the k codes with the largest cosines (..., k)."""
        z = F.normalize(latents.float().reshape(-1, latents.shape[-1]), dim=-1)
        return nearest_k_codes(z, self._codes(), k, score="product").view(*latents.shape[:-1], k)

    @torch.no_grad()
    def probabilities(self, latents: Tensor) -> Tensor:
        """Latents (..., D) -> what codes are drawn by, softmax(cos / temperature) over the codes (..., K); for `soft_lookup`."""
        with torch.autocast(latents.device.type, enabled=False):
            return (F.normalize(latents.float(), dim=-1) @ self._codes().T / self.config.temperature).softmax(dim=-1)

    def _codes(self) -> Tensor:
        return F.normalize(self.codebook.detach().float(), dim=-1)


@torch.no_grad()
def drawn_codes(latents: Tensor, codebook: Tensor, *, temperature: float, noise: Noise) -> Tensor:
    """Indices drawn by softmax(z.e / temperature): argmax(p / x) for exponential draws x, as `torch.multinomial` does it.

    Args:
        latents: (B, L, D) float32.
        codebook: (K, D) float32.
        temperature: of the softmax.
        noise: gives the draws (B, positions, K), some positions at a time.

    Returns:
        (B, L) int64.
    """
    parts = []
    for part in latents.split(max(SAMPLE_SCORES // len(codebook), 1), dim=1):
        p = (part @ codebook.T / temperature).softmax(dim=-1)
        parts.append((p / noise.exponential(*p.shape)).argmax(dim=-1))
    return torch.cat(parts, dim=1) if parts else latents.new_zeros(latents.shape[:2], dtype=torch.int64)
