"""Latent perturbation (RobustTok, Qiu et al. 2025, arXiv 2503.08354): codes give way to near ones, as they do when a generator samples wrongly.

It works on any quantizer that knows the neighbours of its codes, whatever the tokenizer around it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from visiontok.base.config import Config
from visiontok.quantizers.base import Quantized, Quantizer


class AnnealingConfig(Config):
    """How the perturbation weakens: full to `start`, then evenly down to `end_ratio` at `end`, and that from there on.

    Attributes:
        start, end: in units of `steps_per_unit` steps.
        end_ratio: of rate and strength at the end.
        steps_per_unit: 1 counts steps; the steps of an epoch count epochs, as in the paper, within which nothing changes.
    """

    start: int = Field(ge=0)
    end: int = Field(gt=0)
    end_ratio: float = Field(default=0.5, ge=0, le=1)
    steps_per_unit: int = Field(default=1, gt=0)

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


class PerturbationConfig(Config):
    """How much is perturbed.

    Attributes:
        alpha: share of the tokens of an image that are drawn anew.
        beta: share of the images of a batch that are perturbed, its first ones.
        delta: they are drawn evenly from this many nearest codes, the right one included.
        annealing: of alpha and delta over training; None keeps them.
    """

    alpha: float = Field(ge=0, le=1)
    beta: float = Field(default=1.0, ge=0, le=1)
    delta: int = Field(gt=0)
    annealing: AnnealingConfig | None = None

    def at(self, step: int) -> PerturbationConfig:
        """What holds in step `step`; delta is rounded down, but at least 1."""
        if self.annealing is None:
            return self
        ratio = self.annealing.ratio(step)
        return PerturbationConfig(alpha=ratio * self.alpha, beta=self.beta, delta=max(int(ratio * self.delta), 1))


class LatentPerturbation:
    """Perturbs what a quantizer returns in training. Its parameters, its ids in evaluation and its saved state stay what they are.

    Args:
        config: how much.

    Attributes:
        step: of training, which the annealing goes by; whoever trains sets it.
    """

    def __init__(self, config: PerturbationConfig) -> None:
        self.config = config
        self.step = 0

    def attach(self, quantizer: Quantizer) -> RemovableHandle:
        """Perturb every training pass of the quantizer until the handle's `remove()`."""
        return quantizer.register_forward_hook(self._after_forward)

    def __call__(
        self, quantizer: Quantizer, latents: Tensor, quantized: Quantized, *, chances: Tensor | None = None, ranks: Tensor | None = None
    ) -> Quantized:
        """What the decoder and the losses on images read instead of `quantized`; the losses of the quantizer stay.

        Args:
            quantizer: that made `quantized`.
            latents: (B, ..., D) that it read.
            quantized: what it made of them.
            chances: as many numbers in [0, 1) as there are ids; None draws them, from torch's global state.
            ranks: as many ranks in [0, delta); None draws them, after the chances.

        Returns:
            Latents with the values of the drawn codes and the gradient of the right ones, and the drawn ids; in a quantizer's warm-up, whose latents
            are no codes, `quantized` itself.

        Raises:
            TokenError: by quantizers without a codebook.
            ValueError: if there are fewer than delta codes.
        """
        now = self.config.at(self.step)
        count = int(len(latents) * now.beta)
        if count == 0 or now.alpha == 0 or quantized.indices is None or quantized.passed_through:
            return quantized
        clean = quantized.indices
        chances = torch.rand(clean.shape, device=clean.device) if chances is None else chances.view(clean.shape)
        ranks = torch.randint(now.delta, clean.shape, device=clean.device) if ranks is None else ranks.view(clean.shape)
        ranks = torch.where(chances <= now.alpha, ranks, 0)
        drawn = perturbed_indices(quantizer, latents[:count], ranks[:count], delta=now.delta)
        indices = torch.cat([drawn, clean[count:]])
        with torch.no_grad():
            shift = quantizer.lookup(drawn) - quantized.latents[:count]
        moved = quantized.latents[:count] + shift.to(quantized.latents.dtype)
        return replace(quantized, latents=torch.cat([moved, quantized.latents[count:]]), indices=indices)

    def _after_forward(self, quantizer: nn.Module, inputs: tuple[Tensor], output: Quantized) -> Quantized:
        if not quantizer.training:
            return output
        assert isinstance(quantizer, Quantizer)
        return self(quantizer, inputs[0], output)


@torch.no_grad()
def perturbed_indices(quantizer: Quantizer, latents: Tensor, ranks: Tensor, *, delta: int) -> Tensor:
    """The ids that stand at `ranks` among the delta nearest codes of each latent.

    Args:
        quantizer: whose codes they are.
        latents: (B, ..., D).
        ranks: int64 in [0, delta), shaped like the ids.
        delta: neighbours that are looked for.

    Returns:
        ids, shaped like `ranks`.
    """
    return quantizer.neighbours(latents, delta).gather(-1, ranks[..., None]).squeeze(-1)
