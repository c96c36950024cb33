"""Binary quantization without a codebook: a latent becomes the signs of its channels.

One class is lookup-free quantization (LFQ, arXiv 2310.05737) as in Open-MAGVIT2, and binary spherical quantization (BSQ, arXiv 2406.07548) as
its authors and as vector-quantize-pytorch wrote it. They differ in arguments only; the defaults are Open-MAGVIT2's.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.quantizers.base import LARGEST_TABLE, PointwiseQuantizer, Quantized, configured_by
from visiontok.quantizers.bits import MAX_BITS, BitOrder, bits_to_indices, indices_to_bits
from visiontok.quantizers.entropy_terms import MAX_GROUP_SIZE, LogFloor, entropy, mean_probabilities, sample_entropy
from visiontok.quantizers.float32 import Float32Module
from visiontok.quantizers.masks import squared_error
from visiontok.quantizers.nearest import nearest_k_sign_codes


class BinaryEntropyConfig(Config):
    """weight * (sample_weight * entropy of a latent's code - batch_weight * entropy of the batch's mean code).

    Attributes:
        weight, sample_weight, batch_weight: as above.
        inv_temperature: t in P(c) = softmax(2 t z.c) over all codes c.
        group_size: codes of how many channels are enumerated; None for all channels at once, 1 for single signs.
        sample_log, batch_log: the logarithms of the two terms.
    """

    weight: float = Field(default=0.1, ge=0)
    sample_weight: float = Field(default=1.0, ge=0)
    batch_weight: float = Field(default=1.0, ge=0)
    inv_temperature: float = Field(default=100.0, gt=0)
    group_size: int | None = Field(default=None, gt=0, le=MAX_GROUP_SIZE)
    sample_log: LogFloor = LogFloor()
    batch_log: LogFloor = LogFloor(eps=1e-5)


class BinaryQuantizerConfig(Config):
    """Which binary quantizer.

    Attributes:
        dim: D of the latents.
        num_bits: K of a position, where linear layers lead from D channels to K and back; None for a bit per channel, without such layers.
        normalize: put latents on the sphere of radius `scale`.
        scale: of the codes.
        codes: "cube" for signs times `scale`, "sphere" for signs times `scale / sqrt(K)`, of length `scale`.
        bit_order: whether the first channel is the most or the least significant bit of an index.
        chunks: bits per index where a position has several; None for one index of all bits.
        scale_gradient: multiply the straight-through gradient by the size of a code's entries, as BSQ's authors do.
        commitment_weight: of the squared distance of latents to their codes.
        commitment_mean: over all "elements", or over "positions" of the sum over channels.
        entropy: the entropy terms; None without them.
        losses_in_eval: whether losses are computed in evaluation too; zero otherwise.
    """

    type: Literal["binary"] = "binary"
    dim: Positive
    num_bits: Positive | None = None
    normalize: bool = False
    scale: float = Field(default=1.0, gt=0)
    codes: Literal["cube", "sphere"] = "cube"
    bit_order: BitOrder = "lsb"
    chunks: tuple[int, ...] | None = None
    scale_gradient: bool = False
    commitment_weight: float = Field(default=0.25, ge=0)
    commitment_mean: Literal["elements", "positions"] = "elements"
    entropy: BinaryEntropyConfig | None = BinaryEntropyConfig()
    losses_in_eval: bool = False

    @model_validator(mode="after")
    def _check(self) -> BinaryQuantizerConfig:
        if not all(1 <= size <= MAX_BITS for size in self.index_bits) or sum(self.index_bits) != self.bits:
            raise ValueError(f"chunks {self.index_bits} must add up to {self.bits} bits, each from 1 to {MAX_BITS} bits")
        if self.entropy is not None:
            size = self.entropy.group_size or self.bits
            if self.bits % size or size > MAX_GROUP_SIZE:
                raise ValueError(
                    f"entropy.group_size {size} must divide the {self.bits} bits and be at most {MAX_GROUP_SIZE}: its 2^{size} codes are listed"
                )
        return self

    @property
    def bits(self) -> int:
        """K, of a position."""
        return self.num_bits or self.dim

    @property
    def codebook_size(self) -> int:
        """The number of codes, 2^K."""
        return 2**self.bits

    @property
    def index_bits(self) -> tuple[int, ...]:
        """Bits of each index of a position."""
        return self.chunks or (self.bits,)

    @property
    def vocab_size(self) -> tuple[int, ...]:
        """Number of values of each index of a position."""
        return tuple(2**bits for bits in self.index_bits)

    @property
    def level(self) -> float:
        """The absolute value of every entry of a code."""
        return self.scale / math.sqrt(self.bits) if self.codes == "sphere" else self.scale

    def build(self) -> BinaryQuantizer:
        """The quantizer; it has weights only where `num_bits` is given."""
        return BinaryQuantizer(**dict(self))


class BinaryQuantizer(Float32Module, PointwiseQuantizer):
    """Signs with a straight-through gradient, commitment and entropy losses. Works in float32 whatever the model's type."""

    @configured_by(BinaryQuantizerConfig)
    def __init__(self, config: BinaryQuantizerConfig) -> None:
        super().__init__(input_dim=config.dim)
        self.config = config
        bits = config.num_bits
        self.project_in = nn.Identity() if bits is None else nn.Linear(config.dim, bits, dtype=torch.float32)
        self.project_out = nn.Identity() if bits is None else nn.Linear(bits, config.dim, dtype=torch.float32)
        self.register_buffer("_level", torch.tensor(config.level, dtype=torch.float32), persistent=False)

    _level: Tensor

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    @property
    def has_codes(self) -> bool:
        return len(self.config.index_bits) == 1 and self.codebook_size <= LARGEST_TABLE

    def quantize_rows(self, latents: Tensor) -> Quantized:
        """Latents (N, D) -> codes (N, D), indices (N,) or (N, C), losses `commitment` and `entropy`, each times its weight.

        Zero counts as negative. Stats `sample_entropy` and `batch_entropy` are in nats.
        """
        channels = self._projected(self.project_in, latents)
        with torch.autocast(latents.device.type, enabled=False):
            z = channels.float()
            if self.config.normalize:
                z = F.normalize(z, dim=-1) * self.config.scale
            bits = z.detach() > 0
            codes = self._codes(bits)
            losses, stats = self._losses(z, codes)
            quantized = codes
            if z.requires_grad:  # z - sg(z) is zero, so that the values are exactly the codes, whatever the gradient is multiplied by
                quantized = torch.add(codes, z - z.detach(), alpha=self.config.level if self.config.scale_gradient else 1.0)
        indices = bits_to_indices(bits, chunks=self.config.index_bits, order=self.config.bit_order)
        return Quantized(self._projected(self.project_out, quantized).to(latents.dtype), indices, losses, stats)

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (...) or (..., C) -> codes (..., D)."""
        sizes = self.config.vocab_size
        indices = self.checked(indices, sizes[0] if len(sizes) == 1 else sizes)
        codes = self._codes(indices_to_bits(indices, chunks=self.config.index_bits, order=self.config.bit_order))
        return self._projected(self.project_out, codes)

    @torch.no_grad()
    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> the k indices nearest to each, (..., k), or (..., C, k) with each chunk by itself."""
        channels = self._projected(self.project_in, latents).reshape(-1, self.config.bits)
        found = [
            bits_to_indices(nearest_k_sign_codes(chunk, k), chunks=[chunk.shape[1]], order=self.config.bit_order)
            for chunk in channels.split(list(self.config.index_bits), dim=-1)
        ]
        nearest = found[0] if len(found) == 1 else torch.stack(found, dim=1)
        return nearest.unflatten(0, latents.shape[:-1])

    def sign_logits(self, latents: Tensor) -> Tensor:
        """(..., K) latents on the scale of the codes -> (N, K): x in P(c) = softmax(x.c) over signs c, for the terms of `entropy_terms`."""
        return latents.reshape(-1, self.config.bits) * (2 * self._entropy_terms().inv_temperature * self.config.level)

    def entropy_loss(self, latents: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted entropy loss of latents (..., K) on the scale of the codes, and its two terms in nats as stats."""
        logits, terms = self.sign_logits(latents), self._entropy_terms()
        size = terms.group_size or self.config.bits
        sample = sample_entropy(logits, group_size=size, floor=terms.sample_log)
        batch = entropy(mean_probabilities(logits, group_size=size), terms.batch_log).sum()
        loss = terms.weight * (terms.sample_weight * sample - terms.batch_weight * batch)
        return loss, {"sample_entropy": sample.detach(), "batch_entropy": batch.detach()}

    def _entropy_terms(self) -> BinaryEntropyConfig:
        if self.config.entropy is None:
            raise ValueError("this quantizer has no entropy terms")
        return self.config.entropy

    def _projected(self, projection: nn.Module, latents: Tensor) -> Tensor:
        """Through a linear layer in the type of its weights; the latents themselves where there is none."""
        if not isinstance(projection, nn.Linear):
            return latents
        projected: Tensor = projection(latents.to(projection.weight.dtype))
        return projected

    def _codes(self, bits: Tensor) -> Tensor:
        return torch.where(bits, self._level, -self._level)

    def _losses(self, z: Tensor, codes: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        config = self.config
        names = ["commitment"] if config.entropy is None else ["commitment", "entropy"]
        if not (self.training or config.losses_in_eval):
            return {name: z.new_zeros(()) for name in names}, {}
        error = squared_error(z, codes)
        per_position = config.bits if config.commitment_mean == "positions" else 1
        losses, stats = {"commitment": config.commitment_weight * per_position * error}, {"quantization_error": error.detach()}
        if config.entropy is not None:
            losses["entropy"], entropies = self.entropy_loss(z)
            stats |= entropies
        return losses, stats
