"""Quantizers that add up levels, coarse to fine, and the dropout that teaches a decoder to read any number of them."""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.noise import NoiseLike, as_noise, integers
from visiontok.quantizers.base import CodebookQuantizer, NeighborQuantizer, Quantized
from visiontok.quantizers.masks import first_samples


class LevelDropoutConfig(Config):
    """Quantizer dropout (Zeghidour et al. 2021, section III-C; Li et al. 2024, arXiv 2410.01756): some samples keep their first levels only.

    Attributes:
        share: of a batch that is cut, its first samples.
        min_levels: they keep at least; how many is drawn uniformly from there to all of them.
    """

    share: float = Field(gt=0, lt=1)
    min_levels: Positive = 1


class LeveledQuantizer(NeighborQuantizer):
    """Base of residual quantizers: what they return is a sum over levels, of which a sample may keep the first few.

    Attributes:
        num_levels: S.
        dropout: of levels, in training; None keeps all.
    """

    num_levels: int
    dropout: LevelDropoutConfig | None

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """Quantize latents (B, ..., D), in training with the dropout of levels."""
        return self.quantize(latents, self.draw_kept(latents, mask=mask, noise=noise), mask=mask)

    @abstractmethod
    def quantize(self, latents: Tensor, kept: Tensor, *, mask: Tensor | None = None) -> Quantized:
        """Latents (B, ..., D) of which sample b keeps its first kept[b] levels, kept (B,) int64. The indices are those of all levels."""

    def draw_kept(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Tensor:
        """(B,) int64: how many levels each sample of latents (B, ..., D) keeps; all of them outside training.

        Draws one integer a sample, below S - min_levels + 1: how many more than `min_levels` it keeps, if it is one of those that are cut.
        """
        kept = torch.full((len(latents),), self.num_levels, dtype=torch.int64, device=latents.device)
        if not self.training or self.dropout is None:
            return kept
        drawn = integers(as_noise(noise, latents.device), self.num_levels - self.dropout.min_levels + 1, len(latents))
        return torch.where(first_samples(latents, mask, share=self.dropout.share), self.dropout.min_levels + drawn, kept)


class ResidualLevels(LeveledQuantizer):
    """Base of those whose levels are quantizers with codebooks, each of which reads what the ones before it left."""

    @abstractmethod
    def quantizers(self) -> list[CodebookQuantizer]:
        """One for every level."""

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (..., s) of the first s <= S levels -> the sum of what they give (..., D)."""
        levels = self.quantizers()[: indices.shape[-1]]
        return torch.stack([level.lookup(indices[..., number]) for number, level in enumerate(levels)]).sum(dim=0)

    @torch.no_grad()
    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., D) -> at each level the k codes nearest to what the levels before it left, (..., S, k)."""
        residual, found = latents.float(), []
        for level in self.quantizers():
            found.append(level.neighbors(residual, k))
            residual = residual - level.lookup(found[-1][..., 0])
        return torch.stack(found, dim=-2)


def check_min_levels(dropout: LevelDropoutConfig | None, num_levels: int) -> None:
    """Raise ValueError if the dropout keeps more levels than there are."""
    if dropout is not None and dropout.min_levels > num_levels:
        raise ValueError(f"dropout keeps at least {dropout.min_levels} levels, but there are {num_levels}")
