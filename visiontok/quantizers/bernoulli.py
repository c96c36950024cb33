"""Bernoulli bits (ELM's binary autoencoder, arXiv 2410.16257): every channel is a coin, its latent the sum of the rows of a table that came up."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config
from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.quantizers.bits import MAX_BITS, bits_to_ids, ids_to_bits


class BernoulliConfig(Config):
    """How many bits, and how they are drawn and written.

    Attributes:
        dim: width D of latents and of rows.
        chunks: bits per id; their sum is the number K of bits of a position. The first bit of a chunk is its most significant one.
        values: what a bit is worth: 0 or 1 ("unit"), or -1 or 1 ("signed").
        draws: whether bits are drawn in training; thresholded at 1/2 otherwise.
        confidence_weight: of mean(s (1 - s)) with s = sigmoid(value of the probability), as the authors' code computes it.
    """

    type: Literal["bernoulli"] = "bernoulli"
    dim: int = Field(gt=0)
    chunks: tuple[int, ...] = Field(min_length=1)
    values: Literal["unit", "signed"] = "unit"
    draws: bool = True
    confidence_weight: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> BernoulliConfig:
        if not all(1 <= size <= MAX_BITS for size in self.chunks):
            raise ValueError(f"chunks {self.chunks} must each hold 1 to {MAX_BITS} bits")
        return self

    @property
    def num_bits(self) -> int:
        return sum(self.chunks)

    def build(self) -> BernoulliQuantizer:
        """The quantizer with random weights."""
        return BernoulliQuantizer(self)


class BernoulliQuantizer(Quantizer):
    """A linear layer to K logits, a bit each, and the sum over bits of value times row; gradients pass straight through the bits.

    State:
        to_logits: (D) -> (K).
        rows: (K, D), standard normal at first.
    """

    def __init__(self, config: BernoulliConfig) -> None:
        super().__init__()
        self.config = config
        self.to_logits = nn.Linear(config.dim, config.num_bits)
        self.rows = nn.Parameter(torch.randn(config.num_bits, config.dim))

    def forward(self, latents: Tensor) -> Quantized:
        """Latents (..., D) -> latents (..., D), ids (...) or (..., C), and the loss `confidence`, times its weight.

        Bits are drawn in training if the configuration says so, and thresholded otherwise.
        """
        p = self.probabilities(latents)
        draws = self.training and self.config.draws
        return self._quantize(p, torch.rand_like(p) if draws else torch.full_like(p, 0.5))

    def sample(self, latents: Tensor, generator: torch.Generator) -> Quantized:
        """Like `forward` with bits drawn from the generator, as the authors encode; on the generator's device."""
        p = self.probabilities(latents)
        return self._quantize(p, torch.rand(p.shape, generator=generator, device=generator.device).to(p))

    def with_uniform(self, latents: Tensor, uniform: Tensor) -> Quantized:
        """Like `forward` with bits uniform < p, for given numbers (..., K)."""
        return self._quantize(self.probabilities(latents), uniform)

    def probabilities(self, latents: Tensor) -> Tensor:
        """Latents (..., D) -> p of every bit (..., K)."""
        logits = self.to_logits(latents).float()
        return torch.sigmoid(logits if self.config.values == "unit" else 2 * logits)

    def lookup(self, indices: Tensor) -> Tensor:
        """Ids (...), or (..., C) for several chunks -> latents (..., D)."""
        return self._values(ids_to_bits(indices, chunks=self.config.chunks, order="msb").to(self.rows.dtype)) @ self.rows

    def _quantize(self, p: Tensor, threshold: Tensor) -> Quantized:
        bits = p > threshold
        values = self._values(p)
        passed = self._values(bits.to(p.dtype)) + (values - values.detach())  # a zero: the values are exactly the bits'
        latents = passed.to(self.rows.dtype) @ self.rows
        certain = torch.sigmoid(values)
        losses = {"confidence": self.config.confidence_weight * (certain * (1 - certain)).mean()}
        stats = {"bits_set": bits.float().mean()}
        return Quantized(latents, bits_to_ids(bits, chunks=self.config.chunks, order="msb"), losses, stats)

    def _values(self, bits: Tensor) -> Tensor:
        """Bits, or probabilities of bits (..., K) -> what they are worth."""
        return bits if self.config.values == "unit" else 2 * bits - 1
