"""Which codes each position of a sequence uses, and a loss that makes it use many (Selftok, Wang et al. 2025, arXiv 2505.07538)."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from visiontok.base.config import Config
from visiontok.quantizers.across_ranks import sum_over_ranks
from visiontok.quantizers.entropy_terms import LogFloor, entropy

_FLOOR = LogFloor(eps=1e-10)


class DiversityConfig(Config):
    """-weight * strength * (H1 + H2) / 2: the entropies of how a position, and a group of neighbouring positions, spreads over the codebook.

    Attributes:
        weight: as above.
        history: share of the running average in what the entropies are taken of; the rest is the batch's softmax, which has the gradient.
        temperature: divides the cosines before that softmax.
        groups: of consecutive positions; at most one per position.
        fade: mean perplexity of a position over the codebook's size: up to the first number the strength is 0.5, from the second on 0.
        decay: of the running average; `first_decay` at the first step.
    """

    weight: float = Field(default=1.0, ge=0)
    history: float = Field(default=0.8, ge=0, le=1)
    temperature: float = Field(default=0.1, gt=0)
    groups: int = Field(default=64, gt=0)
    fade: tuple[float, float] = (0.1, 0.3)
    decay: float = Field(default=0.99, ge=0, lt=1)
    first_decay: float = Field(default=0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> DiversityConfig:
        if not 0 <= self.fade[0] < self.fade[1]:
            raise ValueError(f"fade must be two rising numbers, got {self.fade}")
        return self


class PositionUsage(nn.Module):
    """A running average of the codes that each position was given.

    State:
        shares: (P, K), per position; zero at first.
        started: whether it has seen a batch.
    """

    shares: Tensor
    started: Tensor

    def __init__(self, config: DiversityConfig, *, num_positions: int, codebook_size: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("shares", torch.zeros(num_positions, codebook_size))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def step(self, indices: Tensor) -> None:
        """Move the average towards the ids (B, P) of the global batch."""
        positions, size = self.shares.shape
        places = torch.arange(positions, device=indices.device) * size + indices
        counts = sum_over_ranks(torch.bincount(places.flatten(), minlength=positions * size).to(self.shares)).view_as(self.shares)
        decay = self.config.decay if bool(self.started) else self.config.first_decay
        self.shares.lerp_(counts * (positions / counts.sum()), 1 - decay)
        self.started.fill_(True)

    @property
    def perplexities(self) -> Tensor:
        """(P,): how many codes each position uses, as if evenly."""
        return entropy(self.shares, _FLOOR).exp()

    def narrow_positions(self) -> Tensor:
        """(P,), summing to 1: positions that use few codes weigh more; for the choice of latents that dead codes become."""
        narrowness = 1 / self.perplexities
        return (10 * narrowness / narrowness.max()).softmax(dim=0)

    def diversity(self, latents: Tensor, codebook: Tensor) -> Tensor:
        """The loss of latents (B, P, D) against codes (K, D), both of unit length."""
        low, high = self.config.fade
        used = self.perplexities.mean() / len(codebook)
        strength = (0.5 * (high - used) / (high - low)).clamp(0, 0.5)
        spread = self.mixed(latents, codebook)
        groups = torch.stack([part.mean(dim=0) for part in spread.tensor_split(min(self.config.groups, len(spread)))])
        entropies = entropy(spread, _FLOOR).mean() + entropy(groups, _FLOOR).mean()
        return -self.config.weight * strength * 0.5 * entropies

    def mixed(self, latents: Tensor, codebook: Tensor) -> Tensor:
        """(P, K): the running average, mixed with the softmax of the latents (B, P, D) over the codes (K, D), averaged over the batch."""

        def soft(rows: Tensor) -> Tensor:
            return (rows @ codebook.T / self.config.temperature).softmax(dim=-1)

        # Sample by sample, and again in the backward pass: B x P x K numbers would be gigabytes.
        total = torch.zeros_like(self.shares)
        for rows in latents:
            total = total + checkpoint(soft, rows, use_reentrant=False, preserve_rng_state=False)
        return self.config.history * self.shares + (1 - self.config.history) * total / len(latents)
