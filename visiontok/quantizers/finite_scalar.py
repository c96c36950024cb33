"""Finite scalar quantization (Mentzer et al. 2023, arXiv 2309.15505): every channel is bounded and rounded; there is no codebook to learn."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config
from visiontok.quantizers.across_ranks import mean_over_ranks
from visiontok.quantizers.base import LARGEST_TABLE, PointwiseQuantizer, Quantized, configured_by
from visiontok.quantizers.entropy_terms import LogFloor, entropy, product_entropies
from visiontok.quantizers.masks import squared_error
from visiontok.quantizers.nearest import nearest_k_codes
from visiontok.quantizers.soft_assignment import CodebookEntropyConfig

MARGIN = 1e-3
"""By how much the bound exceeds the outermost levels, relative to their distance, so that both can be reached."""

LOG_FLOOR = LogFloor(kind="max", eps=1e-5)
"""Of the entropies, as VidTok has it."""

LARGEST_ENTROPY = 2**24
"""Codes of the largest quantizer with an entropy loss, whose mean probabilities are all listed."""


class FiniteScalarQuantizerConfig(Config):
    """How many values each channel takes.

    Attributes:
        levels: per channel; their product is the vocabulary. The first channel varies fastest along the indices.
        commitment_weight: in training, of mean((z - sg(code))^2) with the latent before it is bounded.
        entropy: in training, the entropies of p = softmax(latent . code / temperature) over all codes (VidTok, arXiv 2412.13061); None without them.
    """

    type: Literal["fsq"] = "fsq"
    levels: tuple[Annotated[int, Field(ge=2)], ...] = Field(min_length=1)
    commitment_weight: float = Field(default=0.0, ge=0)
    entropy: CodebookEntropyConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> FiniteScalarQuantizerConfig:
        if self.codebook_size >= 2**63:
            raise ValueError(f"{self.codebook_size} codes have no indices of 64 bits; use fewer levels, or several quantizers side by side")
        if self.entropy is not None and self.codebook_size > LARGEST_ENTROPY:
            raise ValueError(f"the entropy of {self.codebook_size} codes is that of a listed distribution: at most {LARGEST_ENTROPY} codes")
        return self

    @property
    def dim(self) -> int:
        """D of a latent."""
        return len(self.levels)

    @property
    def codebook_size(self) -> int:
        """K, the number of codes."""
        return math.prod(self.levels)

    def build(self) -> FiniteScalarQuantizer:
        """The quantizer; it has no weights. Projections to and from D channels are the family's."""
        return FiniteScalarQuantizer(**dict(self))


class FiniteScalarQuantizer(PointwiseQuantizer):
    """Bound, round, straight-through gradient (of the rounding, not of the bound). Works in float32 whatever the model's type.

    There is no loss unless one is configured.

    A channel with L levels takes the values (digit - L // 2) / (L // 2), digit = 0 ... L - 1: within [-1, 1], zero among them.
    """

    @configured_by(FiniteScalarQuantizerConfig)
    def __init__(self, config: FiniteScalarQuantizerConfig) -> None:
        super().__init__(input_dim=config.dim)
        self.config = config
        basis = [math.prod(config.levels[:channel]) for channel in range(config.dim)]
        self.register_buffer("_levels", torch.tensor(config.levels, dtype=torch.int64), persistent=False)
        self.register_buffer("_basis", torch.tensor(basis, dtype=torch.int64), persistent=False)
        # Indices up to 2^24 are exact in float32, whose arithmetic is several times as fast as that of int64.
        self._exact = torch.float32 if config.codebook_size <= 2**24 else torch.int64

    _levels: Tensor
    _basis: Tensor

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    @property
    def has_codes(self) -> bool:
        return self.codebook_size <= LARGEST_TABLE

    def quantize_rows(self, latents: Tensor) -> Quantized:
        """Latents (N, D) -> codes (N, D) within [-1, 1], indices (N,), and in training the losses that are configured, each times its weight."""
        with torch.autocast(latents.device.type, enabled=False):
            z = latents.float()
            bounded = self.bound(z)
            rounded = bounded.detach().round()
            indices = self._indices(rounded)
            error = rounded.sub_(bounded.detach())
            codes = (bounded + error).mul_(1 / self._halves())
            stats = {"quantization_error": torch.linalg.vector_norm(error).square() / max(error.numel(), 1)}
            losses, entropies = self.losses(z, codes) if self.training else ({}, {})
        return Quantized(codes.to(latents.dtype), indices, losses, stats | entropies)

    def losses(self, latents: Tensor, codes: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """`commitment` and `entropy`, those that are configured, each times its weight; and the two entropies in nats, to log.

        Args:
            latents: (N, D) float32.
            codes: (N, D), theirs.
        """
        config, losses, stats = self.config, {}, {}
        if config.commitment_weight:
            losses["commitment"] = config.commitment_weight * squared_error(latents, codes.detach())
        if config.entropy is not None:
            values = [(torch.arange(size, dtype=torch.float32) - size // 2) / (size // 2) for size in config.levels]
            sample, probabilities = product_entropies(latents / config.entropy.temperature, values, LOG_FLOOR)
            batch = entropy(mean_over_ranks(probabilities, len(latents)), LOG_FLOOR)
            losses["entropy"] = config.entropy.loss(sample, batch)
            stats = {"sample_entropy": sample.detach(), "batch_entropy": batch.detach()}
        return losses, stats

    def bound(self, latents: Tensor) -> Tensor:
        """(..., D) -> (..., D) in units of levels, so that rounding gives digit - L // 2; zero stays zero."""
        shift, half_width, offset = self._curve()
        return torch.addcmul(-offset, torch.tanh(latents + shift), half_width)

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (...) -> codes (..., D)."""
        digits = torch.div(self.checked(indices, self.codebook_size)[..., None], self._basis, rounding_mode="floor") % self._levels
        return (digits - self._levels // 2).to(torch.float32) / self._halves()

    @torch.no_grad()
    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> the indices (..., k) of the codes nearest to the bounded latent, in units of levels."""
        bounded = self.bound(latents.float()).reshape(-1, self.config.dim)
        return nearest_k_codes(bounded, self.codes() * self._halves(), k).view(*latents.shape[:-1], k)

    def _halves(self) -> Tensor:
        """(D,) float32: L // 2 of every channel."""
        return (self._levels // 2).to(torch.float32)

    def _curve(self) -> tuple[Tensor, Tensor, Tensor]:
        """Shift, half width and offset of the bound, each (D,) float32 whatever the model's type."""
        half_width = (self._levels - 1).to(torch.float32) * (1 + MARGIN) / 2
        offset = 0.5 * (self._levels % 2 == 0).to(torch.float32)  # an even number of levels is rounded to lie around -1/2
        return torch.atanh(offset / half_width), half_width, offset

    def _indices(self, rounded: Tensor) -> Tensor:
        zero = (self._levels // 2 * self._basis).sum()
        return (rounded.to(self._exact) * self._basis.to(self._exact)).sum(dim=-1).to(torch.int64) + zero
