"""Quantizers that add up levels, coarse to fine, and the dropout that teaches a decoder to read any number of them."""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Config
from visiontok.quantizers.base import Quantized, Quantizer


class LevelDropoutConfig(Config):
    """Quantizer dropout (Zeghidour et al. 2021, section III-C; Li et al. 2024, arXiv 2410.01756): some samples keep their first levels only.

    Attributes:
        share: of a batch that is cut, its first samples.
        min_levels: they keep at least; how many is drawn evenly from there to all of them.
    """

    share: float = Field(gt=0, lt=1)
    min_levels: int = Field(default=1, gt=0)


class LevelledQuantizer(Quantizer):
    """Base of residual quantizers: what they return is a sum over levels, of which a sample may keep the first few.

    Attributes:
        num_levels: S.
        dropout: of levels, in training; None keeps all.
    """

    num_levels: int
    dropout: LevelDropoutConfig | None

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize latents (B, ..., D), in training with the dropout of levels."""
        return self.quantize(latents, self.draw_kept(len(latents), latents.device))

    @abstractmethod
    def quantize(self, latents: Tensor, kept: Tensor) -> Quantized:
        """Latents (B, ..., D) of which sample b keeps its first kept[b] levels, kept (B,) int64. The ids are those of all levels."""

    def draw_kept(self, batch: int, device: torch.device) -> Tensor:
        """(B,) int64: how many levels each sample of a batch keeps, drawn from torch's global state; all of them outside training."""
        kept = torch.full((batch,), self.num_levels, device=device)
        if self.training and self.dropout is not None:
            cut = int(batch * self.dropout.share)
            kept[:cut] = torch.randint(self.dropout.min_levels, self.num_levels + 1, (cut,)).to(device)
        return kept


def check_min_levels(dropout: LevelDropoutConfig | None, num_levels: int) -> None:
    """Raise ValueError if the dropout keeps more levels than there are."""
    if dropout is not None and dropout.min_levels > num_levels:
        raise ValueError(f"dropout keeps at least {dropout.min_levels} levels, but there are {num_levels}")
