"""The straight-through estimator (Bengio et al. 2013)."""

from __future__ import annotations

from torch import Tensor


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """The value of `quantized`, to the last bit, with the gradient of `latents`; both (..., D)."""
    return quantized.detach() + (latents - latents.detach())
