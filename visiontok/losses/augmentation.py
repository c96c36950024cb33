"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020, arXiv 2006.10738): of real and generated images alike."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.base.noise import Noise, NoiseLike, as_noise


class DiffAugmentConfig(Config):
    """How strongly, for values in [-1, 1]; every sample draws its own.

    Attributes:
        translation: largest shift as a share of the side; what is shifted in is 0.
        color: change brightness, saturation and contrast.
        cutout: side of the square that is set to 0, as a share of the image's.
    """

    translation: float = Field(default=0.125, ge=0, lt=1)
    color: bool = True
    cutout: float = Field(default=0.2, ge=0, lt=1)


def diff_augment(images: Tensor, config: DiffAugmentConfig, noise: NoiseLike = None) -> Tensor:
    """(B, C, H, W) in [-1, 1] -> (B, C, H, W), differentiable with respect to the images.

    Args:
        images: real or generated.
        config: how strongly.
        noise: source of the draws: in this order shifts, colors and squares, uniform (B, n) each.
    """
    source = as_noise(noise, images.device)
    if config.translation:
        images = _translated(images, config.translation, source)
    if config.color:
        images = _recolored(images, source)
    if config.cutout:
        images = _cut_out(images, config.cutout, source)
    return images


def crop(images: Tensor, tops: Tensor, lefts: Tensor, size: tuple[int, int]) -> Tensor:
    """A window of `size` from each image: (B, C, H, W) -> (B, C, *size).

    Args:
        images: (B, C, H, W).
        tops, lefts: (B,) int64, the first row and column.
        size: rows and columns.
    """
    rows = tops[:, None] + torch.arange(size[0], dtype=torch.int64, device=images.device)
    columns = lefts[:, None] + torch.arange(size[1], dtype=torch.int64, device=images.device)
    samples = torch.arange(len(images), dtype=torch.int64, device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _translated(images: Tensor, share: float, noise: Noise) -> Tensor:
    size = images.shape[-2], images.shape[-1]
    height, width = (round(side * share) for side in size)
    draws = noise.uniform(len(images), 2)
    tops = (draws[:, 0] * (2 * height + 1)).long().clamp_max(2 * height)
    lefts = (draws[:, 1] * (2 * width + 1)).long().clamp_max(2 * width)
    return crop(F.pad(images, (width, width, height, height)), tops, lefts, size)


def _recolored(images: Tensor, noise: Noise) -> Tensor:
    """Brightness + U(-0.5, 0.5), saturation times U(0, 2), contrast times U(0.5, 1.5)."""
    brightness, saturation, contrast = noise.uniform(len(images), 3)[:, :, None, None, None].unbind(dim=1)
    images = images + (brightness - 0.5)
    gray = images.mean(dim=1, keepdim=True)
    images = (images - gray) * (2 * saturation) + gray
    level = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - level) * (contrast + 0.5) + level


def _cut_out(images: Tensor, share: float, noise: Noise) -> Tensor:
    """The square's center lies anywhere in the image, so its border may cut the square."""
    draws = noise.uniform(len(images), 2)
    inside = []
    for axis, side in enumerate(images.shape[-2:]):
        center = (draws[:, axis] * side).long().clamp_max(side - 1)[:, None]
        length = round(side * share)
        positions = torch.arange(side, dtype=torch.int64, device=images.device) - center + length // 2
        inside.append((positions >= 0) & (positions < length))
    return images * ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])
