"""Padding of latents: how it is removed, and put back."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.errors import LatentError


def valid_rows(latents: Tensor, mask: Tensor | None) -> Tensor:
    """Latents (..., D) -> the rows (N, D) where mask (...) is True; all of them for None.

    Raises:
        LatentError: if the mask is not bool or has another shape.
    """
    if mask is None:
        return latents.reshape(-1, latents.shape[-1])
    return latents[checked(mask, latents)]


def at_positions(rows: Tensor, shape: torch.Size, mask: Tensor | None) -> Tensor:
    """The inverse of `valid_rows`: rows (N, ...) -> (*shape, ...), zero where mask (shape) is False."""
    if mask is None:
        return rows.reshape((*shape, *rows.shape[1:]))
    padded = rows.new_zeros((*shape, *rows.shape[1:]))
    padded[mask] = rows
    return padded


def without_padding(latents: Tensor, mask: Tensor | None) -> Tensor:
    """Latents (..., D) with zeros where mask (...) is False, so that padding of any value is harmless."""
    return latents if mask is None else latents.masked_fill(~checked(mask, latents)[..., None], 0.0)


def whole_samples(latents: Tensor, mask: Tensor) -> Tensor:
    """(B,) bool of a mask (B, ...) that is the same throughout each sample.

    Raises:
        LatentError: if it is not, or does not fit latents (B, ..., D).
    """
    flat = checked(mask, latents).reshape(len(latents), -1)
    if not torch.equal(flat.all(dim=1), flat.any(dim=1)):
        raise LatentError("a sample is partly padding, but its latents are quantized together: mask whole samples only")
    return flat.all(dim=1)


def first_samples(latents: Tensor, mask: Tensor | None, *, share: float) -> Tensor:
    """(B,) bool: the first samples of a batch of latents (B, ..., D), rounded down to whole ones; samples that are all padding do not count."""
    if mask is None:
        return torch.arange(len(latents), dtype=torch.int64, device=latents.device) < int(len(latents) * share)
    present = checked(mask, latents).reshape(len(latents), -1).any(dim=1)
    return present & (present.cumsum(dim=0) <= int(int(present.sum()) * share))


def checked(mask: Tensor, latents: Tensor) -> Tensor:
    """The mask.

    Raises:
        LatentError: if it is not bool, or not shaped like latents without their last axis.
    """
    if mask.dtype != torch.bool or mask.shape != latents.shape[:-1]:
        raise LatentError(f"a mask of {tuple(latents.shape[:-1])} bool fits these latents, not {tuple(mask.shape)} {mask.dtype}")
    return mask


def squared_error(latents: Tensor, target: Tensor) -> Tensor:
    """The mean of (latents - target)^2 over all elements; 0 where there is none."""
    return F.mse_loss(latents, target) if latents.numel() else (latents - target).sum()
