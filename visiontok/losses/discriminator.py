"""What an objective asks of a discriminator."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from visiontok.base.noise import NoiseLike, for_parts
from visiontok.losses.pixels import as_images


class Discriminator(nn.Module, ABC):
    """Tells real images from generated ones, and real clips frame by frame. Parameters that do not require gradients stay as they are."""

    @abstractmethod
    def forward(self, images: Tensor, noise: NoiseLike = None) -> Tensor:
        """Images (B, C, H, W) in the range of the signal -> logits (B, ...), large for real ones.

        Args:
            images: real or generated.
            noise: source of the draws, for discriminators that draw.
        """

    def features(self, images: Tensor, noise: NoiseLike = None) -> list[Tensor]:
        """Feature maps (B, ...), and the logits as the last one; overridden by discriminators whose features may be matched."""
        return [self(images, noise)]

    def reads(self, signal: Tensor) -> bool:
        """Whether it judges signals (B, C, *axes) of that size at all."""
        return True

    def seen(self, signal: Tensor, noise: NoiseLike) -> tuple[Tensor, NoiseLike]:
        """What it judges of a signal (B, C, *axes), with the draws for that: every frame of a clip."""
        return as_images(signal), for_parts(noise, signal.shape[2] if signal.ndim == 5 else 1)


class ClipDiscriminator(Discriminator):
    """Tells whole clips (B, C, T, H, W) from generated ones, of several frames."""

    def reads(self, signal: Tensor) -> bool:
        return signal.shape[2] > 1

    def seen(self, signal: Tensor, noise: NoiseLike) -> tuple[Tensor, NoiseLike]:
        """The clip as it is."""
        return signal, noise
