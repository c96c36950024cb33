"""How gradients pass a quantizer: estimators by name, each a function of (latents, quantized) with the value of `quantized`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

Gradient = Literal["straight_through", "rotation"]


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """Straight-through estimator (Bengio et al. 2013): the value of `quantized`, to the last bit, with the gradient of `latents`; both (..., D)."""
    return quantized.detach() + (latents - latents.detach())


def rotate(latents: Tensor, quantized: Tensor) -> Tensor:
    """The rotation trick (Fifty et al. 2024, arXiv 2410.06424): the value of `quantized` as if it were `latents`, rotated and scaled; both (..., D).

    With unit vectors z and q of the two and r of z + q, the rotation is R = I - 2 r r' + 2 q z' (equation 4), and quantized = s R latents with
    the ratio s of the lengths. R and s count as constants, so a gradient g becomes s R' g: its angle to the latent is what its angle to the
    code was. Where a vector is zero, or the two are opposite, there is no such rotation and terms without a direction vanish.
    """
    return _Rotation.apply(latents, quantized)


class _Rotation(Function):
    """Written out, so that neither R nor the two products of the forward pass are ever computed."""

    @staticmethod
    def forward(ctx, latents: Tensor, quantized: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(latents, quantized)
        return quantized.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def, override]
        latents, quantized = ctx.saved_tensors
        z, q = F.normalize(latents, dim=-1), F.normalize(quantized, dim=-1)
        r = F.normalize(z + q, dim=-1)
        ratio = quantized.norm(dim=-1, keepdim=True) / latents.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(latents.dtype).tiny)
        along_r, along_q = (gradient * r).sum(dim=-1, keepdim=True), (gradient * q).sum(dim=-1, keepdim=True)
        return ratio * (gradient - 2 * along_r * r + 2 * along_q * z), None


GRADIENTS: Mapping[Gradient, Callable[[Tensor, Tensor], Tensor]] = {"straight_through": straight_through, "rotation": rotate}
