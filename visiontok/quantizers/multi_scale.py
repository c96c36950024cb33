"""Multi-scale residual quantization (VAR, Tian et al. 2024, arXiv 2404.02905; ImageFolder, Li et al. 2024, arXiv 2410.01756).

A square of latents is quantized coarse to fine: each scale quantizes what the scales before it left at a smaller size, and adds its codes,
enlarged and passed through a convolution phi, to the sum that the decoder reads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.base.errors import LatentError, TokenError
from visiontok.quantizers.base import CodebookQuantizer, Quantized, configured_by, of_all_ranks
from visiontok.quantizers.binary import BinaryQuantizer, BinaryQuantizerConfig
from visiontok.quantizers.gradients import straight_through
from visiontok.quantizers.levels import LevelDropoutConfig, LeveledQuantizer, check_min_levels
from visiontok.quantizers.masks import at_positions, whole_samples
from visiontok.quantizers.phi import PhiConfig
from visiontok.quantizers.vector import VectorQuantizerConfig


class MultiScaleQuantizerConfig(Config):
    """Scales and what they share.

    Attributes:
        scales: side of the square at each scale, coarse to fine; the last one is that of the latents.
        quantizer: one for all scales. Its own commitment and codebook weights are not used: the losses below are of the running sum.
        amplitude_ratio: the codes of scale s are multiplied by amplitude_ratio ** s.
        phi: convolutions on the enlarged codes; None for none.
        downsample, upsample: how latents are made smaller, and codes larger.
        normalize: put the latents on the unit sphere before the first scale.
        commitment_weight: of mean((z - sg(sum))^2), averaged over the sums after each scale.
        codebook_weight: of mean((sg(z) - sum)^2), averaged likewise; it moves codes and phi.
        dropout: of scales, in training; None keeps all.
        entropy_samples: whose latents the entropy of a binary quantizer is taken over: of the samples that keep the scale ("kept"), or as
            ImageFolder's models were trained ("first_two"): of the batch's second sample once for each that keeps it, and of its first for
            each that does not.
    """

    type: Literal["multi_scale"] = "multi_scale"
    scales: tuple[Positive, ...] = Field(min_length=1)
    quantizer: Annotated[VectorQuantizerConfig | BinaryQuantizerConfig, Field(discriminator="type")]
    amplitude_ratio: float = Field(default=1.0, gt=0)
    phi: PhiConfig | None = PhiConfig()
    downsample: Literal["area", "bilinear", "bicubic"] = "area"
    upsample: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    normalize: bool = False
    commitment_weight: float = Field(default=0.25, ge=0)
    codebook_weight: float = Field(default=1.0, ge=0)
    dropout: LevelDropoutConfig | None = None
    entropy_samples: Literal["kept", "first_two"] = "kept"

    @model_validator(mode="after")
    def _check(self) -> MultiScaleQuantizerConfig:
        check_min_levels(self.dropout, len(self.scales))
        if max(self.scales) > self.scales[-1]:
            raise ValueError(f"scales {self.scales}: the last one is that of the latents, so none can be larger")
        inner = self.quantizer
        if isinstance(inner, VectorQuantizerConfig) and (inner.ema or inner.kmeans or inner.dead_code_reset or inner.clustering):
            raise ValueError("codes of several scales learn from the sum alone: use a quantizer without kmeans, ema, dead_code_reset and clustering")
        if isinstance(inner, BinaryQuantizerConfig) and (inner.chunks is not None or inner.num_bits is not None):
            raise ValueError("a scale has one index per position, of its latents as they are: use a binary quantizer without chunks and num_bits")
        return self

    @property
    def dim(self) -> int:
        """D of the latents."""
        return self.quantizer.dim

    @property
    def num_positions(self) -> int:
        """Indices of all scales together."""
        return sum(side**2 for side in self.scales)

    def build(self) -> MultiScaleQuantizer:
        """The quantizer with random weights."""
        return MultiScaleQuantizer(**dict(self))


class MultiScaleQuantizer(LeveledQuantizer):
    """Latents (B, H, H, D) -> sum over scales (B, H, H, D), indices (B, M): those of each scale, row-major, coarse to fine.

    A mask covers whole samples: those of coarse scales are of all positions together.

    State:
        quantizer: of all scales.
        phi: the convolutions.
    """

    @configured_by(MultiScaleQuantizerConfig)
    def __init__(self, config: MultiScaleQuantizerConfig) -> None:
        super().__init__(input_dim=config.dim)
        self.config, self.num_levels, self.dropout = config, len(config.scales), config.dropout
        self.quantizer: CodebookQuantizer = config.quantizer.build()
        self.phi = None if config.phi is None else config.phi.build(channels=config.quantizer.dim, num_scales=self.num_levels)

    def quantize(self, latents: Tensor, kept: Tensor, *, mask: Tensor | None = None) -> Quantized:
        """Latents (B, H, H, D) of which sample b keeps kept[b] scales -> see the class. Losses: `commitment`, `codebook`; in training `entropy`.

        Raises:
            LatentError: if the latents are not a square of the last scale's side, or the mask is not the same throughout a sample.
        """
        self._check_square(latents)
        if mask is None:
            return self._quantize_samples(latents, kept)
        samples = whole_samples(latents, mask)
        found = self._quantize_samples(latents[samples], kept[samples])
        found, batch = of_all_ranks(found, samples.sum()), samples.shape
        assert found.indices is not None
        return replace(found, latents=at_positions(found.latents, batch, samples), indices=at_positions(found.indices, batch, samples))

    def _quantize_samples(self, latents: Tensor, kept: Tensor) -> Quantized:
        """Latents (B, H, H, D), B perhaps 0."""
        config = self.config
        with torch.autocast(latents.device.type, enabled=False):
            z = self._normalized(latents.float())
            rest, total, indices = z.detach(), torch.zeros_like(z), []
            losses = {"commitment": z.new_zeros(()), "codebook": z.new_zeros(())}
            for scale in range(self.num_levels):
                found = self.quantizer.search(self._smaller(rest, scale))
                codes = self._enlarged(found, scale)
                keeps = (scale < kept).to(z.dtype)[:, None, None, None]
                per_kept = len(z) / (keeps.sum().clamp_min(1) * self.num_levels)
                if self.training and isinstance(self.quantizer, BinaryQuantizer) and self.quantizer.config.entropy is not None:
                    term = self._entropy(z - total.detach(), scale, scale < kept) * per_kept
                    losses["entropy"] = losses.get("entropy", 0) + term
                rest = rest - codes.detach()
                total = total + codes * keeps
                losses["commitment"] = losses["commitment"] + config.commitment_weight * per_kept * _mse(z, total.detach(), keeps)
                losses["codebook"] = losses["codebook"] + config.codebook_weight * per_kept * _mse(total, z.detach(), keeps)
                indices.append(found.flatten(1))
            quantized = straight_through(z, total)
            stats = {"quantization_error": _mse(rest, torch.zeros_like(rest), torch.ones_like(rest))}
        return Quantized(quantized.to(latents.dtype), torch.cat(indices, dim=1), losses, stats)

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (B, M) -> the sum of all scales (B, H, H, D)."""
        return self.partial_sums(indices)[-1]

    def partial_sums(self, indices: Tensor) -> list[Tensor]:
        """The sums (B, H, H, D) of the first 1, 2, ... scales whose indices (B, m) are given: those of whole scales, from the coarsest on.

        Raises:
            TokenError: if m indices are not those of whole scales.
        """
        sums: list[Tensor] = []
        with torch.autocast(indices.device.type, enabled=False):
            for scale, part in enumerate(self._by_scale(indices)):
                codes = self._enlarged(part, scale)
                sums.append(sums[-1] + codes if sums else codes)
        return sums

    def next_scale_inputs(self, indices: Tensor) -> Tensor:
        """What a next-scale generator reads (VAR, section 3.2): indices (B, M) -> (B, M - scales[0] ** 2, D).

        For each scale but the first, the sum of the scales before it at its own size, row-major.
        """
        sums = self.partial_sums(indices)[:-1]
        return torch.cat([self._smaller(partial, scale).flatten(1, 2) for scale, partial in enumerate(sums, start=1)], dim=1)

    @torch.no_grad()
    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """Latents (B, H, H, D) -> at each scale the k codes nearest to what the scales before it left, (B, M, k)."""
        self._check_square(latents)
        rest, found = self._normalized(latents.float()), []
        with torch.autocast(latents.device.type, enabled=False):
            for scale in range(self.num_levels):
                nearest = self.quantizer.neighbors(self._smaller(rest, scale), k)
                rest = rest - self._enlarged(nearest[..., 0], scale)
                found.append(nearest.flatten(1, 2))
        return torch.cat(found, dim=1)

    def _normalized(self, latents: Tensor) -> Tensor:
        return F.normalize(latents, dim=-1) if self.config.normalize else latents

    def _smaller(self, latents: Tensor, scale: int) -> Tensor:
        """(B, H, H, D) at the size of a scale, (B, p, p, D)."""
        return _resized(latents, self.config.scales[scale], self.config.downsample)

    def _enlarged(self, indices: Tensor, scale: int) -> Tensor:
        """What the indices (B, p, p) of a scale add to the sum, (B, H, H, D)."""
        codes = self.quantizer.lookup(indices) * self.config.amplitude_ratio**scale
        codes = _resized(codes, self.config.scales[-1], self.config.upsample)
        return codes if self.phi is None else self.phi(codes, scale)

    def _entropy(self, rest: Tensor, scale: int, keeps: Tensor) -> Tensor:
        """The entropy loss of a scale, over what (B, H, H, D) the scales before it left, at full size."""
        assert isinstance(self.quantizer, BinaryQuantizer)
        chosen = torch.nonzero(keeps).flatten() if self.config.entropy_samples == "kept" else keeps.long().clamp_max(len(rest) - 1)
        loss, _ = self.quantizer.entropy_loss(rest[chosen] * self.config.amplitude_ratio**scale)
        return loss

    def _by_scale(self, indices: Tensor) -> list[Tensor]:
        """Indices (B, m) of the first scales -> each scale's (B, p, p)."""
        found, start = [], 0
        for side in self.config.scales:
            if start == indices.shape[1]:
                break
            found.append(indices[:, start : start + side**2])
            start += side**2
        if not found or start != indices.shape[1]:
            raise TokenError(f"{indices.shape[1]} indices are not whole scales; scales {self.config.scales} have {self.config.num_positions}")
        return [part.unflatten(1, (side, side)) for part, side in zip(found, self.config.scales, strict=False)]

    def _check_square(self, latents: Tensor) -> None:
        side = self.config.scales[-1]
        if latents.ndim != 4 or latents.shape[1:3] != (side, side):
            raise LatentError(f"latents must be (B, {side}, {side}, D), the last scale's square, got {tuple(latents.shape)}")


def _resized(values: Tensor, side: int, mode: str) -> Tensor:
    """(B, p, p, D) -> (B, side, side, D), by no antialiasing other than that of "area"."""
    if values.shape[1] == side:
        return values
    if not len(values):
        return values.new_zeros(0, side, side, values.shape[-1])
    return F.interpolate(values.permute(0, 3, 1, 2), size=(side, side), mode=mode).permute(0, 2, 3, 1)


def _mse(values: Tensor, target: Tensor, keeps: Tensor) -> Tensor:
    """The mean over all elements of the squared distances of those samples that keep the scale."""
    return ((values - target).square() * keeps).sum() / max(values.numel(), 1)
