"""Index backpropagation quantization (Shi et al. 2024, arXiv 2412.02692): gradients reach every code, through the softmax over all of them."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.quantizers.base import PointwiseQuantizer, Quantized, configured_by
from visiontok.quantizers.float32 import Float32Module
from visiontok.quantizers.masks import squared_error
from visiontok.quantizers.nearest import nearest_codes, nearest_k_codes
from visiontok.quantizers.soft_assignment import CodebookEntropyConfig, assignment_entropies, expected_codes


class IndexBackpropQuantizerConfig(Config):
    """A codebook and its losses.

    Attributes:
        codebook_size: K.
        dim: D of a code.
        index_weight: of mean((z_q - z)^2), whose gradient reaches the latents and all codes through the softmax.
        commitment_weight: of mean((z - sg(e))^2), which moves the encoder.
        codebook_weight: of mean((sg(z) - e)^2), which moves the chosen codes.
        entropy: the entropy terms, in training; None without them.
    """

    type: Literal["ibq"] = "ibq"
    codebook_size: Positive
    dim: Positive
    index_weight: float = Field(default=1.0, ge=0)
    commitment_weight: float = Field(default=1.0, ge=0)
    codebook_weight: float = Field(default=0.25, ge=0)
    entropy: CodebookEntropyConfig | None = None

    def build(self) -> IndexBackpropQuantizer:
        """The quantizer with a random codebook."""
        return IndexBackpropQuantizer(**dict(self))


class IndexBackpropQuantizer(Float32Module, PointwiseQuantizer):
    """The code with the largest dot product (not the nearest: long codes win); its gradient is that of the softmax's expectation, equation 5.

    Works in float32 whatever the model's type. Without gradients only the search runs. Neither pass builds the N x K scores.

    State:
        codebook: (K, D), standard normal at first.
    """

    @configured_by(IndexBackpropQuantizerConfig)
    def __init__(self, config: IndexBackpropQuantizerConfig) -> None:
        super().__init__(input_dim=config.dim)
        self.config = config
        self.codebook = nn.Parameter(torch.randn(config.codebook_size, config.dim, dtype=torch.float32))

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    def quantize_rows(self, latents: Tensor) -> Quantized:
        """Latents (N, D) -> codes (N, D), indices (N,), losses `index`, `commitment`, `codebook`, each times its weight.

        In training with `entropy` configured also that loss, and its two terms in nats among the stats.
        """
        config = self.config
        with torch.autocast(latents.device.type, enabled=False):
            z = latents.float()
            codebook = self.codebook.float()
            indices = nearest_codes(z.detach(), codebook.detach(), score="product")
            codes = F.embedding(indices, codebook)
            quantized = codes
            if torch.is_grad_enabled():
                expected = expected_codes(z, codebook)
                quantized = codes + (expected - expected.detach())  # a zero: the values are exactly the codes
            losses = {
                "index": config.index_weight * squared_error(quantized, z),
                "commitment": config.commitment_weight * squared_error(z, codes.detach()),
                "codebook": config.codebook_weight * squared_error(codes, z.detach()),
            }
            stats = {"quantization_error": squared_error(z, codes).detach()}
            if self.training and config.entropy is not None:
                sample, batch = assignment_entropies(z, codebook, scale=1 / config.entropy.temperature, score="product")
                losses["entropy"] = config.entropy.loss(sample, batch)
                stats |= {"sample_entropy": sample.detach(), "batch_entropy": batch.detach()}
        return Quantized(quantized.to(latents.dtype), indices, losses, stats)

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (...) -> codes (..., D)."""
        return F.embedding(self.checked(indices, self.codebook_size), self.codebook)

    @torch.no_grad()
    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> the k codes with the largest dot products (..., k)."""
        z = latents.float().reshape(-1, latents.shape[-1])
        return nearest_k_codes(z, self.codebook.detach(), k, score="product").view(*latents.shape[:-1], k)
