"""What an objective asks of a discriminator."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from visiontok.base.noise import NoiseLike


class Discriminator(nn.Module, ABC):
    """Tells real images from generated ones. Parameters that do not require gradients stay as they are."""

    @abstractmethod
    def forward(self, images: Tensor, noise: NoiseLike = None) -> Tensor:
        """Images (B, C, H, W) in the range of the signal -> logits (B, ...), large for real ones.

        Args:
            images: real or generated.
            noise: source of the draws, for discriminators that draw.
        """
