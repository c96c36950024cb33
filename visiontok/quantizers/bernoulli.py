"""Bernoulli bits (ELM's binary autoencoder, arXiv 2410.16257): every channel is a Bernoulli variable, and the latent is the sum of the table's rows,
each times the value of its bit."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.base.noise import NoiseLike, as_noise
from visiontok.quantizers.base import Quantized, Quantizer, configured_by, of_all_ranks
from visiontok.quantizers.bits import MAX_BITS, bits_to_indices, indices_to_bits
from visiontok.quantizers.float32 import Float32Module
from visiontok.quantizers.masks import at_positions, valid_rows


class BernoulliQuantizerConfig(Config):
    """How many bits, and how they are drawn and written.

    Attributes:
        dim: D of latents and of rows.
        chunks: bits per index; their sum is the number K of bits of a position. The first bit of a chunk is its most significant one.
        values: of a bit: 0 or 1 ("unit"), or -1 or 1 ("signed").
        draws: whether bits are drawn in training, rather than thresholded at 1/2. In evaluation they are drawn where noise is given.
        confidence_weight: of mean(s (1 - s)) with s = sigmoid(value of the probability), as the authors' code computes it.
    """

    type: Literal["bernoulli"] = "bernoulli"
    dim: Positive
    chunks: tuple[int, ...] = Field(min_length=1)
    values: Literal["unit", "signed"] = "unit"
    draws: bool = True
    confidence_weight: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> BernoulliQuantizerConfig:
        if not all(1 <= size <= MAX_BITS for size in self.chunks):
            raise ValueError(f"chunks {self.chunks} must each hold 1 to {MAX_BITS} bits")
        return self

    @property
    def num_bits(self) -> int:
        return sum(self.chunks)

    def build(self) -> BernoulliQuantizer:
        """The quantizer with random weights."""
        return BernoulliQuantizer(**dict(self))


class BernoulliQuantizer(Float32Module, Quantizer):
    """A linear layer to K logits, a bit each, and the sum over bits of value times row; gradients pass straight through the bits.

    State:
        to_logits: (D) -> (K).
        rows: (K, D), standard normal at first.
    """

    @configured_by(BernoulliQuantizerConfig)
    def __init__(self, config: BernoulliQuantizerConfig) -> None:
        super().__init__(input_dim=config.dim)
        self.config = config
        self.to_logits = nn.Linear(config.dim, config.num_bits, dtype=torch.float32)
        self.rows = nn.Parameter(torch.randn(config.num_bits, config.dim, dtype=torch.float32))

    @property
    def is_stochastic(self) -> bool:
        return True

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """Latents (..., D) -> latents (..., D), indices (...) or (..., C), and the loss `confidence`, times its weight.

        A bit is set where its probability exceeds a uniform draw, (..., K) of them, or 1/2 where bits are not drawn.
        """
        p = self.probabilities(valid_rows(latents, mask))
        threshold = torch.full_like(p, 0.5)
        if self.config.draws if self.training else noise is not None:
            drawn = as_noise(noise, p.device).uniform(*latents.shape[:-1], self.config.num_bits)
            threshold = valid_rows(drawn, mask)
        bits = p > threshold
        values = self._values(p)
        passed = self._values(bits.to(p.dtype)) + (values - values.detach())  # a zero: the values are exactly the bits'
        certain = torch.sigmoid(values)
        losses = {"confidence": self.config.confidence_weight * (certain * (1 - certain)).sum() / max(certain.numel(), 1)}
        stats = {"bits_set": bits.sum(dtype=torch.float32) / max(bits.numel(), 1)}
        indices, shape = bits_to_indices(bits, chunks=self.config.chunks, order="msb"), latents.shape[:-1]
        summed = self._sum_of_rows(passed).to(latents.dtype)
        found = Quantized(at_positions(summed, shape, mask), at_positions(indices, shape, mask), losses, stats)
        return of_all_ranks(found, None if mask is None else mask.sum())

    def probabilities(self, latents: Tensor) -> Tensor:
        """Latents (..., D) -> p of every bit (..., K)."""
        logits = self.to_logits(latents.to(self.to_logits.weight.dtype)).float()
        return torch.sigmoid(logits if self.config.values == "unit" else 2 * logits)

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (...), or (..., C) for several chunks -> latents (..., D)."""
        sizes = tuple(2**bits for bits in self.config.chunks)
        indices = self.checked(indices, sizes[0] if len(sizes) == 1 else sizes)
        return self._sum_of_rows(self._values(indices_to_bits(indices, chunks=self.config.chunks, order="msb").to(torch.float32)))

    def _sum_of_rows(self, values: Tensor) -> Tensor:
        with torch.autocast(values.device.type, enabled=False):
            return values @ self.rows.float()

    def _values(self, bits: Tensor) -> Tensor:
        """Bits, or probabilities of bits (..., K) -> their values."""
        return bits if self.config.values == "unit" else 2 * bits - 1
