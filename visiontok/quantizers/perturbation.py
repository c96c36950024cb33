"""Latent perturbation (RobustTok, Qiu et al. 2025, arXiv 2503.08354): codes are replaced by near ones, which simulates sampling errors of a
generator.

It works on any quantizer whose codes have neighbors, whatever the tokenizer around it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.errors import ConfigError
from visiontok.base.noise import NoiseLike, as_noise, integers
from visiontok.quantizers.base import Bottleneck, NeighborQuantizer, Quantized
from visiontok.quantizers.masks import checked, first_samples


class AnnealingConfig(Config):
    """How the perturbation weakens: full to `start`, then linearly down to `end_ratio` at `end`, and that from there on.

    Attributes:
        start, end: in units of `steps_per_unit` steps.
        end_ratio: of rate and strength at the end.
        steps_per_unit: 1 counts steps; the steps of an epoch count epochs, as in the paper, within which nothing changes.
    """

    start: int = Field(ge=0)
    end: Positive
    end_ratio: float = Field(default=0.5, ge=0, le=1)
    steps_per_unit: Positive = 1

    @model_validator(mode="after")
    def _check(self) -> AnnealingConfig:
        if self.end <= self.start:
            raise ValueError(f"annealing ends at {self.end}, which is not after its start at {self.start}")
        return self

    def ratio(self, step: int) -> float:
        """What is left of the perturbation in step `step`, counted from 0."""
        now = step // self.steps_per_unit
        if now < self.start:
            return 1.0
        if now > self.end:
            return self.end_ratio
        return 1 - (now - self.start) / (self.end - self.start) * self.end_ratio


class LatentPerturbationConfig(Config):
    """How much is perturbed.

    Attributes:
        alpha: share of the tokens of a sample that are replaced.
        beta: share of the samples of a batch that are perturbed, its first ones.
        delta: they are drawn uniformly from this many nearest codes, the right one included.
        annealing: of alpha and delta over training; None keeps them.
    """

    alpha: float = Field(ge=0, le=1)
    beta: float = Field(default=1.0, ge=0, le=1)
    delta: Positive
    annealing: AnnealingConfig | None = None

    def at(self, step: int) -> LatentPerturbationConfig:
        """What holds in step `step`; delta is rounded down, but at least 1."""
        if self.annealing is None:
            return self
        ratio = self.annealing.ratio(step)
        return LatentPerturbationConfig(alpha=ratio * self.alpha, beta=self.beta, delta=max(int(ratio * self.delta), 1))


class LatentPerturbation:
    """Perturbs what a quantizer returns; it holds no state. `Tokenizer.quantize` applies it in training to the tokenizer that holds it.

    Args:
        config: how much.
    """

    def __init__(self, config: LatentPerturbationConfig) -> None:
        self.config = config

    def __call__(
        self,
        quantizer: Bottleneck,
        latents: Tensor,
        quantized: Quantized,
        *,
        step: int,
        mask: Tensor | None = None,
        noise: NoiseLike = None,
    ) -> Quantized:
        """What the decoder and the losses on samples read instead of `quantized`; the losses of the quantizer stay.

        Draws one uniform value for every index of the batch, then one integer below delta: where the first is at most alpha, the second is the
        rank of the code that replaces the nearest.

        Args:
            quantizer: that made `quantized`.
            latents: (B, ..., D) that it read.
            quantized: what it made of them.
            step: of training, which the annealing goes by.
            mask: (B, ...) bool, False for padding, which stays as it is.
            noise: where the draws come from.

        Returns:
            Latents with the values of the drawn codes and the gradient of the right ones, and the drawn indices; in a quantizer's warm-up, whose
            latents are no codes, `quantized` itself.

        Raises:
            ConfigError: if the quantizer's codes have no neighbors.
            ValueError: if there are fewer than delta codes.
        """
        quantizer = with_neighbors(quantizer)
        now, clean = self.config.at(step), quantized.indices
        rows = torch.nonzero(first_samples(latents, mask, share=now.beta)).flatten()
        if len(rows) == 0 or now.alpha == 0 or clean is None or quantized.passed_through:
            return quantized
        noise = as_noise(noise, clean.device)
        chances, ranks = noise.uniform(*clean.shape), integers(noise, now.delta, *clean.shape)
        ranks = torch.where(chances <= now.alpha, ranks, 0)[rows]
        drawn = indices_at_ranks(quantizer, latents[rows], ranks, delta=now.delta)
        with torch.no_grad():
            shift = (quantizer.lookup(drawn) - quantized.latents[rows]).to(quantized.latents.dtype)
        valid = None if mask is None else checked(mask, latents)[rows]
        if valid is not None and not bool(valid.all()):
            drawn = torch.where(valid.view(*valid.shape, *[1] * (drawn.ndim - valid.ndim)), drawn, clean[rows])
            shift = shift.masked_fill(~valid[..., None], 0.0)
        return replace(quantized, latents=quantized.latents.index_add(0, rows, shift), indices=clean.index_copy(0, rows, drawn))


def with_neighbors(quantizer: Bottleneck) -> NeighborQuantizer:
    """A quantizer that can be perturbed.

    Raises:
        ConfigError: if its codes have no neighbors.
    """
    if not isinstance(quantizer, NeighborQuantizer):
        raise ConfigError(f"a {type(quantizer).__name__} cannot be perturbed: its codes have no neighbors")
    return quantizer


@torch.no_grad()
def indices_at_ranks(quantizer: NeighborQuantizer, latents: Tensor, ranks: Tensor, *, delta: int) -> Tensor:
    """The indices at `ranks` among the delta nearest codes of each latent.

    Args:
        quantizer: whose codes they are.
        latents: (B, ..., D).
        ranks: int64 in [0, delta), shaped like the indices.
        delta: number of neighbors.

    Returns:
        indices, shaped like `ranks`.
    """
    return quantizer.neighbors(latents, delta).gather(-1, ranks[..., None]).squeeze(-1)
