"""Fidelity of reconstructions: mean squared error and PSNR, one value per sample, computed in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.base.finite import check_finite


def mse(reference: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean squared error of each sample, in the square of the inputs' unit.

    Args:
        reference, reconstruction: (B, ...) of any number type.

    Returns:
        (B,) float64.

    Raises:
        EvaluationError: if the shapes differ.
    """
    first, second = as_pair(reference, reconstruction)
    return (first - second).square().flatten(1).mean(dim=1)


def psnr(reference: Tensor, reconstruction: Tensor, *, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio of each sample in dB, 10 log10(range^2 / mse); infinite for identical samples.

    Args:
        reference, reconstruction: (B, ...).
        data_range: largest minus smallest possible value: 255 for uint8, 1 for [0, 1], 2 for [-1, 1].

    Returns:
        (B,) float64.
    """
    error = mse(reference, reconstruction)
    check_span(reference, data_range=data_range)
    return psnr_from_mse(error, data_range=data_range)


def psnr_from_mse(error: Tensor, *, data_range: float) -> Tensor:
    """PSNR in dB of mean squared errors of any shape. The pooled PSNR is that of the mean of all samples' errors."""
    if not 0 < data_range < math.inf:
        raise EvaluationError(f"data_range must be positive and finite, got {data_range}")
    return 10 * torch.log10(data_range**2 / error)


def check_span(reference: Tensor, *, data_range: float) -> None:
    """Raise an EvaluationError if the reference holds values that are further apart than the largest and smallest possible ones.

    Also if data_range is not positive and finite.
    """
    if not 0 < data_range < math.inf:
        raise EvaluationError(f"data_range must be positive and finite, got {data_range}")
    if not reference.numel():
        return
    low, high = (float(end) for end in reference.double().aminmax())
    if high - low > data_range * (1 + 1e-3):
        raise EvaluationError(f"the reference holds values from {low:g} to {high:g}, which are further apart than the data_range of {data_range:g}")


def as_pair(reference: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor]:
    """Both batches as float64.

    Raises:
        EvaluationError: see `check_pair`.
        NonFiniteError: if one holds NaN or infinity.
    """
    check_pair(reference, reconstruction)
    first, second = reference.double(), reconstruction.double()
    check_finite(first, stage="the reference of a metric")
    check_finite(second, stage="the reconstruction of a metric")
    return first, second


def check_pair(reference: Tensor, reconstruction: Tensor) -> None:
    """What metrics of two signals compare.

    Raises:
        EvaluationError: unless both are batches of one shape, on one scale.
    """
    if not isinstance(reference, Tensor) or not isinstance(reconstruction, Tensor):
        kinds = f"{type(reference).__name__} and {type(reconstruction).__name__}"
        raise EvaluationError(f"reference and reconstruction must be tensors (B, ...), got {kinds}: use torch.as_tensor")
    if reference.ndim < 2 or reference.shape != reconstruction.shape:
        shapes = f"{tuple(reference.shape)} and {tuple(reconstruction.shape)}"
        raise EvaluationError(f"reference and reconstruction must be batches (B, ...) of one shape, got {shapes}")
    if reference.is_floating_point() != reconstruction.is_floating_point() or reference.is_complex() or reconstruction.is_complex():
        raise EvaluationError(f"reference and reconstruction must be on one scale, got {reference.dtype} and {reconstruction.dtype}: use to_uint8")
