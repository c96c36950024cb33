"""A continuous bottleneck followed by a quantizer: how a trained continuous tokenizer becomes a discrete one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from visiontok.base.noise import NoiseLike
from visiontok.quantizers.base import ContinuousBottleneck, NeighborQuantizer, Quantized


class QuantizedBottleneck(NeighborQuantizer):
    """Quantizes what a continuous bottleneck gives: a sample of its posterior, or the mode.

    Args:
        bottleneck: gives the latents.
        quantizer: of the latents.
    """

    def __init__(self, *, bottleneck: ContinuousBottleneck, quantizer: NeighborQuantizer) -> None:
        super().__init__(input_dim=bottleneck.input_dim)
        self.bottleneck = bottleneck
        self.quantizer = quantizer

    @property
    def is_stochastic(self) -> bool:
        return self.bottleneck.is_stochastic or self.quantizer.is_stochastic

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """What the bottleneck reads -> what the quantizer makes of its latents (..., D), with the losses of both."""
        drawn = self.bottleneck(latents, mask=mask, noise=noise)
        quantized = self.quantizer(drawn.latents, mask=mask, noise=noise)
        return replace(quantized, losses={**drawn.losses, **quantized.losses}, stats={**drawn.stats, **quantized.stats})

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices -> latents (..., D)."""
        return self.quantizer.lookup(indices)

    @torch.no_grad()
    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """What the bottleneck reads -> the indices nearest to the latents that `forward` quantizes in evaluation."""
        return self.quantizer.neighbors(self.bottleneck.mode(latents), k)
