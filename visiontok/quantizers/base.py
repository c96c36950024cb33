"""The quantizer contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from visiontok.base.errors import TokenError


@dataclass(frozen=True)
class Quantized:
    """What a quantizer returns.

    Attributes:
        latents: (..., D) what the decoder reads; gradients pass through to the quantizer's input.
        indices: (...) or (..., C) int64 ids; None for continuous bottlenecks.
        losses: terms already multiplied by their weights; their sum is the quantizer's loss.
        stats: numbers to watch, never part of the loss.
        passed_through: whether the latents are those that were given, as in a warm-up; the ids then only say which codes are nearest.
    """

    latents: Tensor
    indices: Tensor | None
    losses: dict[str, Tensor] = field(default_factory=dict)
    stats: dict[str, Tensor] = field(default_factory=dict)
    passed_through: bool = False


class Quantizer(nn.Module, ABC):
    """Latents in, quantized latents and ids out; knows no family, no layout and no signal."""

    @abstractmethod
    def forward(self, latents: Tensor) -> Quantized:
        """Quantize latents (..., D)."""

    @abstractmethod
    def lookup(self, indices: Tensor) -> Tensor:
        """The latents (..., D) that stand behind ids (...); equals `forward(x).latents` for `forward(x).indices`."""

    @torch.no_grad()
    def search(self, latents: Tensor) -> Tensor:
        """The ids of `forward(latents)` alone; nothing is learned from these latents."""
        was_training = self.training
        try:
            return self.eval()(latents).indices
        finally:
            self.train(was_training)

    def neighbours(self, latents: Tensor, k: int) -> Tensor:
        """For every id of `forward(latents)`, the k ids nearest to the latent that it stands for, nearest first; rank 0 is that id itself.

        Returns:
            (*indices.shape, k) int64.

        Raises:
            TokenError: by quantizers without a codebook.
            ValueError: if there are fewer than k codes.
        """
        raise TokenError(f"{type(self).__name__} has no codebook in which codes have neighbours")

    def sample(self, latents: Tensor, generator: torch.Generator) -> Quantized:
        """Like `forward` for quantizers that draw; deterministic quantizers have nothing to draw."""
        return self(latents)
