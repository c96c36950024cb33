"""Residual levels of different rates (SNAC, Siuzdak et al. 2024, arXiv 2410.14411): coarse ones read and fill several frames at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d

from visiontok.base.noise import NoiseLike
from visiontok.quantizers import FactorizedVectorQuantizer
from visiontok.quantizers.base import Quantized, Quantizer, of_all_ranks
from visiontok.quantizers.masks import at_positions, whole_samples


class MultiRateQuantizer(Quantizer):
    """Latents (B, T, D) -> the sum of the levels (B, T, D), indices (B, T, K): a code of stride s is the same at s frames in turn.

    A mask covers whole samples. Gradients pass through every level; losses add up over them.

    Args:
        strides: frames of a code at every level; T is a multiple of each.
        dim: D.
        codebook_size: of every level.
        codebook_dim: in which codes are searched.
    """

    def __init__(self, *, strides: Sequence[int], dim: int, codebook_size: int, codebook_dim: int) -> None:
        super().__init__(input_dim=dim)
        self.strides = tuple(strides)
        self.levels = nn.ModuleList(FactorizedVectorQuantizer(codebook_size=codebook_size, dim=dim, codebook_dim=codebook_dim) for _ in strides)

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """See `Quantizer`; latents are (B, T, D)."""
        if mask is None:
            return self._quantized(latents)
        samples = whole_samples(latents, mask)
        found = of_all_ranks(self._quantized(latents[samples]), samples.sum())
        assert found.indices is not None
        values, indices = (at_positions(part, samples.shape, samples) for part in (found.latents, found.indices))
        return replace(found, latents=values, indices=indices)

    def _quantized(self, latents: Tensor) -> Quantized:
        rest, total = latents, torch.zeros_like(latents)
        indices, losses = [], []
        for level, stride in zip(self.levels, self.strides, strict=True):
            found = level(pooled(rest, stride))
            values = found.latents.repeat_interleave(stride, dim=1)
            total, rest = total + values, rest - values
            indices.append(found.indices.repeat_interleave(stride, dim=1))
            losses.append(found.losses)
        stats = {"quantization_error": rest.detach().square().mean()}
        return Quantized(total, torch.stack(indices, dim=-1), {name: sum(part[name] for part in losses) for name in losses[0]}, stats)

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (..., k) of the first levels -> the sum of what they give (..., D)."""
        levels = [cast("FactorizedVectorQuantizer", level) for level in self.levels[: indices.shape[-1]]]
        return torch.stack([level.lookup(indices[..., number]) for number, level in enumerate(levels)]).sum(dim=0)


def pooled(latents: Tensor, stride: int) -> Tensor:
    """Means over `stride` frames in turn: (B, T, D) -> (B, T / stride, D)."""
    return avg_pool1d(latents.transpose(1, 2), stride).transpose(1, 2)
