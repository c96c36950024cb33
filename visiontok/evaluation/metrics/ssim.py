"""Structural similarity (Wang et al., 2004) and its multi-scale form (Wang, Simoncelli and Bovik, 2003), one value per image.

The canonical definition: Gaussian window 11 x 11 with sigma 1.5, population covariance, only windows that lie wholly inside the image,
mean over the windows of each channel and then over the channels. Libraries that pad the border, downsample first, or use a uniform
window give other numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.fidelity import as_pair, check_span

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST_MULTI_SCALE = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1
"""Pixels of a side so that the window fits into the smallest scale."""


def ssim(reference: Tensor, reconstruction: Tensor, *, data_range: float) -> Tensor:
    """SSIM of each image.

    Args:
        reference, reconstruction: (B, C, H, W) with both sides at least 11.
        data_range: 255 for uint8, 1 for [0, 1], 2 for [-1, 1].

    Returns:
        (B,) float64 in [-1, 1]; 1 for identical images.

    Raises:
        EvaluationError: if the shapes differ or the images are smaller than the window.
    """
    first, second = _image_pair(reference, reconstruction)
    check_span(first, data_range=data_range)
    # one by one, so that the intermediate images of each stay in the cache
    pairs = zip(first.split(1), second.split(1), strict=True)
    return torch.cat([_similarity_and_contrast(*pair, data_range=data_range)[0].mean(dim=1) for pair in pairs])


def ms_ssim(reference: Tensor, reconstruction: Tensor, *, data_range: float) -> Tensor:
    """Multi-scale SSIM of each image: contrast at four scales, similarity at the fifth, weighted as published; halved by 2 x 2 means.

    Args:
        reference, reconstruction: (B, C, H, W) with both sides above 160, so that the window fits into the smallest scale.
        data_range: as for `ssim`.

    Returns:
        (B,) float64 in [0, 1].
    """
    first, second = _image_pair(reference, reconstruction)
    check_span(first, data_range=data_range)
    if min(first.shape[-2:]) < SMALLEST_MULTI_SCALE:
        raise EvaluationError(
            f"MS-SSIM needs images of at least {SMALLEST_MULTI_SCALE} pixels on both sides, got {tuple(first.shape[-2:])}; use SSIM"
        )
    product = torch.ones(first.shape[:2], dtype=torch.float64, device=first.device)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            # an odd side gets a zero border before halving, as in the common implementations
            border = [side % 2 for side in first.shape[-2:]]
            first, second = (F.avg_pool2d(image, 2, padding=border) for image in (first, second))
        similarity, contrast = _similarity_and_contrast(first, second, data_range=data_range)
        term = similarity if scale == len(SCALE_WEIGHTS) - 1 else contrast
        product = product * term.clamp_min(0) ** weight
    return product.mean(dim=1)


def _image_pair(reference: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor]:
    if reference.ndim != 4:
        raise EvaluationError(f"images must have shape (B, C, H, W), got {tuple(reference.shape)}")
    return as_pair(reference, reconstruction)


def _similarity_and_contrast(first: Tensor, second: Tensor, *, data_range: float) -> tuple[Tensor, Tensor]:
    """(B, C) means of the similarity and of its contrast-structure factor."""
    if min(first.shape[-2:]) < WINDOW:
        raise EvaluationError(f"SSIM needs images of at least {WINDOW} x {WINDOW} pixels, got {tuple(first.shape[-2:])}")
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean1, mean2 = _blur(first), _blur(second)
    variance = _blur(first.square() + second.square()) - mean1.square() - mean2.square()
    covariance = _blur(first * second) - mean1 * mean2
    contrast = (2 * covariance + c2) / (variance + c2)
    luminance = (2 * mean1 * mean2 + c1) / (mean1.square() + mean2.square() + c1)
    return (luminance * contrast).mean(dim=(2, 3)), contrast.mean(dim=(2, 3))


def _blur(images: Tensor) -> Tensor:
    """Gaussian-weighted means over all windows that fit: (B, C, H, W) -> (B, C, H - 10, W - 10)."""
    offset = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    weights = torch.softmax(-offset.square() / (2 * SIGMA**2), dim=0)
    for axis in (2, 3):
        size = images.shape[axis] - WINDOW + 1
        blurred = torch.zeros_like(images.narrow(axis, 0, size))
        for start, weight in enumerate(weights.tolist()):
            blurred.add_(images.narrow(axis, start, size), alpha=weight)
        images = blurred
    return images
