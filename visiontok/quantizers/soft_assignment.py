"""Softmax assignments of latents to codes. Their N x K matrix is never built: rows are computed in tiles, and again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from visiontok.base.config import Config
from visiontok.quantizers.nearest import Score, score_offsets, tile_rows

Tile = TypeVar("Tile")

LOG_FLOOR = 1e-5
"""Added to a mean probability before its logarithm, as LlamaGen and IBQ do."""


class CodebookEntropyConfig(Config):
    """weight * (sample_weight * entropy of a latent's assignment - batch_weight * entropy of the batch's mean assignment).

    Attributes:
        weight, sample_weight, batch_weight: as above; the first term makes assignments certain, the second spreads them over the codebook.
        temperature: divides the scores of the codes before the softmax.
    """

    weight: float = Field(gt=0)
    sample_weight: float = Field(default=1.0, ge=0)
    batch_weight: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=0.01, gt=0)

    def loss(self, sample_entropy: Tensor, batch_entropy: Tensor) -> Tensor:
        """The weighted term."""
        return self.weight * (self.sample_weight * sample_entropy - self.batch_weight * batch_entropy)


def expected_codes(latents: Tensor, codebook: Tensor) -> Tensor:
    """sum_k p_k sg(e_k) with p = softmax(z.e): the gradient reaches the latents and every code, through p.

    Args:
        latents: (N, D).
        codebook: (K, D).

    Returns:
        (N, D).
    """

    def tile(rows: Tensor, codes: Tensor) -> Tensor:
        return (rows @ codes.T).softmax(dim=1) @ codes.detach()

    return torch.cat(_tiles(tile, latents, codebook))


def assignment_entropies(latents: Tensor, codebook: Tensor, *, scale: float, score: Score) -> tuple[Tensor, Tensor]:
    """Entropies of p = softmax(scale * score), in nats, where the score is -|z - e|^2 / 2 (up to a constant) or z.e.

    Args:
        latents: (N, D).
        codebook: (K, D).
        scale: of the scores, an inverse temperature.
        score: "distance" or "product".

    Returns:
        the mean entropy of a latent's p, and the entropy of the mean p; scalars.
    """

    def tile(rows: Tensor, codes: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        log_p = (scale * torch.addmm(offsets, rows, codes.T)).log_softmax(dim=1)
        p = log_p.exp()
        return -(p * log_p).sum(), p.sum(dim=0)

    tiles = _tiles(tile, latents, codebook, score_offsets(codebook, score))
    mean_p = torch.stack([total for _, total in tiles]).sum(dim=0) / max(len(latents), 1)
    sample_entropy = torch.stack([total for total, _ in tiles]).sum() / max(len(latents), 1)
    return sample_entropy, -(mean_p * (mean_p + LOG_FLOOR).log()).sum()


def _tiles(function: Callable[..., Tile], latents: Tensor, *others: Tensor) -> list[Tile]:
    """`function` of tiles of latents (N, D) and of the other tensors, whose inner results are not kept for the backward pass."""
    rows = tile_rows(latents.device, len(others[0]))
    return [checkpoint(function, part, *others, use_reentrant=False, preserve_rng_state=False) for part in latents.split(rows)]
