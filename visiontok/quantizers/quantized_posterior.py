"""A continuous bottleneck followed by a quantizer: how a trained continuous tokenizer becomes a discrete one."""

from __future__ import annotations

import torch
from torch import Tensor

from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.quantizers.gaussian import GaussianBottleneck


class QuantizedPosterior(Quantizer):
    """Draws from a Gaussian posterior, or takes its mode, as `GaussianBottleneck` does, and quantizes that.

    Args:
        bottleneck: gives the latents.
        quantizer: of the latents.
    """

    def __init__(self, bottleneck: GaussianBottleneck, quantizer: Quantizer) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self.quantizer = quantizer

    def forward(self, latents: Tensor) -> Quantized:
        """Posterior parameters (..., 2 D) -> what the quantizer makes of a latent (..., D), with the losses of both."""
        return self._quantize(self.bottleneck(latents))

    def sample(self, latents: Tensor, generator: torch.Generator) -> Quantized:
        """Like `forward`, with noise of the generator."""
        return self._quantize(self.bottleneck.sample(latents, generator))

    def with_noise(self, latents: Tensor, noise: Tensor) -> Quantized:
        """Like `forward`, with given noise (..., D)."""
        return self._quantize(self.bottleneck.with_noise(latents, noise))

    def lookup(self, indices: Tensor) -> Tensor:
        """Ids -> latents (..., D)."""
        return self.quantizer.lookup(indices)

    @torch.no_grad()
    def neighbours(self, latents: Tensor, k: int) -> Tensor:
        """Posterior parameters (..., 2 D) -> the ids nearest to the latents that `forward` quantizes in evaluation."""
        mean, _ = self.bottleneck.posterior(latents)
        return self.quantizer.neighbours((mean - self.bottleneck.config.shift) * self.bottleneck.config.scale, k)

    def _quantize(self, drawn: Quantized) -> Quantized:
        quantized = self.quantizer(drawn.latents)
        return Quantized(quantized.latents, quantized.indices, {**drawn.losses, **quantized.losses}, {**drawn.stats, **quantized.stats})
