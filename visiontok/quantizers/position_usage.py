"""Which codes each position of a sequence uses, and a loss that makes it use many (Selftok, Wang et al. 2025, arXiv 2505.07538)."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from visiontok.base.config import Config, Positive
from visiontok.quantizers.across_ranks import sum_over_ranks
from visiontok.quantizers.entropy_terms import LogFloor, entropy
from visiontok.quantizers.float32 import Float32Module

_FLOOR = LogFloor(eps=1e-10)


class PositionUsageConfig(Config):
    """-weight * strength * (H1 + H2) / 2: the entropies of how a position, and a group of neighboring positions, spreads over the codebook.

    Attributes:
        weight: as above.
        history: share of the running average in what the entropies are taken of; the rest is the batch's softmax, which has the gradient.
        temperature: divides the cosines before that softmax.
        groups: of consecutive positions; at most one per position.
        fade: mean perplexity of a position over the codebook's size: up to the first value the strength is 0.5, from the second on 0.
        decay: of the running average; `first_decay` at the first step.
    """

    weight: float = Field(default=1.0, ge=0)
    history: float = Field(default=0.8, ge=0, le=1)
    temperature: float = Field(default=0.1, gt=0)
    groups: Positive = 64
    fade: tuple[float, float] = (0.1, 0.3)
    decay: float = Field(default=0.99, ge=0, lt=1)
    first_decay: float = Field(default=0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> PositionUsageConfig:
        if not 0 <= self.fade[0] < self.fade[1]:
            raise ValueError(f"fade must be two rising values, got {self.fade}")
        return self


class PositionUsage(Float32Module):
    """A running average of the codes that each position was given.

    State:
        shares: (P, K), per position; zero at first.
        started: whether it has seen a batch.
    """

    shares: Tensor
    started: Tensor

    def __init__(self, config: PositionUsageConfig, *, num_positions: int, codebook_size: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("shares", torch.zeros(num_positions, codebook_size, dtype=torch.float32))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def step(self, indices: Tensor, mask: Tensor | None = None) -> None:
        """Move the average towards the indices (B, P) of the global batch, where mask (B, P); positions that are all padding keep theirs."""
        positions, size = self.shares.shape
        cells = torch.arange(positions, dtype=torch.int64, device=indices.device) * size + indices
        cells = cells.flatten() if mask is None else cells[mask]
        counts = sum_over_ranks(torch.bincount(cells, minlength=positions * size).to(self.shares)).view_as(self.shares)
        seen = counts.sum(dim=1, keepdim=True)
        decay = self.config.decay if bool(self.started) else self.config.first_decay
        self.shares.copy_(torch.where(seen > 0, self.shares.lerp(counts / seen.clamp_min(1), 1 - decay), self.shares))
        self.started.fill_(True)

    @property
    def perplexities(self) -> Tensor:
        """(P,): perplexity of each position: how many codes it uses."""
        return entropy(self.shares, _FLOOR).exp()

    def narrow_positions(self) -> Tensor:
        """(P,), summing to 1: positions that use few codes weigh more; for the choice of latents that dead codes become."""
        narrowness = 1 / self.perplexities
        return (10 * narrowness / narrowness.max()).softmax(dim=0)

    def diversity(self, latents: Tensor, codebook: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of latents (B, P, D) against codes (K, D), both of unit length, where mask (B, P)."""
        low, high = self.config.fade
        used = self.perplexities.mean() / len(codebook)
        strength = (0.5 * (high - used) / (high - low)).clamp(0, 0.5)
        spread = self.mixed(latents, codebook, mask)
        groups = torch.stack([part.mean(dim=0) for part in spread.tensor_split(min(self.config.groups, len(spread)))])
        entropies = entropy(spread, _FLOOR).mean() + entropy(groups, _FLOOR).mean()
        return -self.config.weight * strength * 0.5 * entropies

    def mixed(self, latents: Tensor, codebook: Tensor, mask: Tensor | None = None) -> Tensor:
        """(P, K): the running average, mixed with the softmax of the latents (B, P, D) over the codes (K, D), averaged over the batch.

        Where a position is padding in every sample, the running average alone.
        """

        def soft(rows: Tensor) -> Tensor:
            return (rows @ codebook.T / self.config.temperature).softmax(dim=-1)

        # Sample by sample, and again in the backward pass: B x P x K values would be gigabytes.
        weights = latents.new_ones(latents.shape[:2]) if mask is None else mask.to(latents.dtype)
        total = torch.zeros_like(self.shares)
        for rows, valid in zip(latents, weights, strict=True):
            total = total + checkpoint(soft, rows, use_reentrant=False, preserve_rng_state=False) * valid[:, None]
        seen = weights.sum(dim=0)[:, None]
        share = torch.full_like(seen, self.config.history).masked_fill(seen == 0, 1.0)
        return share * self.shares + (1 - share) * total / seen.clamp_min(1)
