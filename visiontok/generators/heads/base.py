"""What a head is: from a backbone's output at a step to the tokens, or the latent, that the step writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from visiontok.base.noise import Noise
from visiontok.generators.orders import GenerationSteps

Embed: TypeAlias = Callable[[Tensor], Tensor]
"""Rows (...) of the table of all codebooks -> their embeddings (..., D)."""
Choose: TypeAlias = Callable[[Tensor, Tensor | None, int], Tensor]
"""Logits (B, V) with the condition, without it (or None), and the codebook level -> codes (B,)."""


class TokenHead(nn.Module, ABC):
    """Distributions over the K codes that a step writes."""

    @abstractmethod
    def scores(self, hidden: Tensor, codes: Tensor, plan: GenerationSteps, embed: Embed) -> tuple[Tensor, Tensor]:
        """Minus the log-probability of every token in nats, and whether the most likely code is its code.

        Args:
            hidden: (B, T, D).
            codes: (B, T, K) int64.
            plan: which codebook every token is of, and which tokens there are.
            embed: of tokens that were already written in the same step.

        Returns:
            (B, T, K) float32 and bool; 0 and False where there is no token.
        """

    def penalty(self, hidden: Tensor, plan: GenerationSteps) -> Tensor:
        """What is added to the training loss, a mean over tokens; 0 unless a subclass says otherwise. The arguments are those of `scores`."""
        return hidden.new_zeros((), dtype=torch.float32)

    def for_steps(self, steps: int, rows: int) -> TokenHead:
        """What samples so many steps of so many rows, with and without the condition together; itself, unless a subclass has something faster."""
        return self

    @abstractmethod
    def sample(self, hidden: Tensor, unconditional: Tensor | None, plan: GenerationSteps, embed: Embed, choose: Choose) -> Tensor:
        """Choose the tokens of one step.

        Args:
            hidden: (B, D) with the condition.
            unconditional: (B, D) without it; None where it is not needed.
            plan: of the one step: (K,) each.
            embed: see `scores`.
            choose: guides, filters and draws.

        Returns:
            (B, K) int64; 0 where there is no token.
        """


class LatentHead(nn.Module, ABC):
    """A distribution over continuous latents."""

    @abstractmethod
    def loss(self, hidden: Tensor, latents: Tensor, held: Tensor, noise: Noise) -> Tensor:
        """Training errors.

        Args:
            hidden: (B, T, D).
            latents: (B, T, C).
            held: (B, T) bool; N are True.
            noise: source of the draws.

        Returns:
            (N,) float32, row by row.
        """

    @abstractmethod
    def sample(self, hidden: Tensor, unconditional: Tensor | None, noise: Noise, *, steps: int, guidance: float, temperature: float) -> Tensor:
        """Latents (B, M, C) from (B, M, D).

        Args:
            hidden: with the condition.
            unconditional: without it, for a guidance scale other than 1.
            noise: source of the draws.
            steps: of the sampler.
            guidance: scale s of `u + s * (c - u)`.
            temperature: of the noise.
        """
