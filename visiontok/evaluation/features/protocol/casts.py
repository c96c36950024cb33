"""From floats to the 8-bit image that a metric sees."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from visiontok.base.errors import EvaluationError

Cast: TypeAlias = Literal["round", "trunc", "half-up"]
CASTS: tuple[Cast, ...] = get_args(Cast)


def to_uint8(images: Tensor, *, cast: Cast = "round") -> Tensor:
    """Images of any shape in [0, 1] to uint8, values outside clamped.

    Args:
        images: floats.
        cast: `round` to the nearest level, halves to even; `half-up` is floor(255 x + 1/2); `trunc` drops the fraction, as a plain cast
            of 255 x does: values that a normalization to [-1, 1] and back left a rounding error below a level come out one level low.

    Raises:
        EvaluationError: for an unknown cast, numbers that are not finite, or whole numbers, which are no shares of the largest level.
    """
    levels = _finite(images).clamp(0, 1) * 255
    if cast == "round":
        return levels.round().to(torch.uint8)
    if cast == "half-up":
        return (levels + 0.5).to(torch.uint8)
    if cast == "trunc":
        return levels.to(torch.uint8)
    raise EvaluationError(f"there is no cast {cast!r}; known: {', '.join(CASTS)}")


def signed_to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] to uint8 by trunc(127.5 x + 128), as published samplers write the files that ADM's script scores.

    It is `half-up` but for ties, where the rounding of the floats decides.
    """
    return (127.5 * _finite(images) + 128).clamp(0, 255).to(torch.uint8)


def _finite(images: Tensor) -> Tensor:
    """The images as floats of at least 32 bits."""
    if not images.is_floating_point():
        raise EvaluationError(f"images to be made 8-bit must be floats in [0, 1], got {images.dtype}")
    images = images.to(torch.promote_types(images.dtype, torch.float32)) if images.element_size() > 1 else images.float()
    if not torch.isfinite(images).all():
        raise EvaluationError("the images hold numbers that are not finite")
    return images
