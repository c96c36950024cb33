"""Bits and the indices that they encode: the bits of a latent, cut into chunks, become one index per chunk. Exact for any number: int64
throughout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from visiontok.base.errors import TokenError

BitOrder = Literal["msb", "lsb"]
"""Whether the first bit of a chunk is its most or its least significant one."""

MAX_BITS = 62
"""Bits of one index at most: the number of indices, 2 ** bits, is itself an int64."""


def bits_to_indices(bits: Tensor, *, chunks: Sequence[int], order: BitOrder) -> Tensor:
    """The indices that bits encode.

    Args:
        bits: (..., D) bool, or integers 0 and 1.
        chunks: bits per index, in the order of the bits; their sum is D.
        order: significance of the bits within a chunk.

    Returns:
        int64 indices (..., C) for C chunks, or (...) for a single chunk, each in [0, 2 ** bits of its chunk).

    Raises:
        ValueError: if the chunks do not add up to D, or one is empty or longer than `MAX_BITS`.
    """
    _check(chunks)
    if bits.shape[-1] != sum(chunks):
        raise ValueError(f"chunks {tuple(chunks)} hold {sum(chunks)} bits, but there are {bits.shape[-1]} per position")
    indices = torch.zeros(*bits.shape[:-1], len(chunks), dtype=torch.int64, device=bits.device)
    for chunk, part in enumerate(bits.split(list(chunks), dim=-1)):
        digits = part.unbind(dim=-1)
        for digit in digits if order == "msb" else reversed(digits):
            indices[..., chunk].mul_(2).add_(digit)
    return indices[..., 0] if len(chunks) == 1 else indices


def indices_to_bits(indices: Tensor, *, chunks: Sequence[int], order: BitOrder) -> Tensor:
    """Inverse of `bits_to_indices`.

    Args:
        indices: int64 (..., C) for C chunks, or (...) for a single chunk.
        chunks: bits per index.
        order: significance of the bits within a chunk.

    Returns:
        bool (..., D).

    Raises:
        TokenError: if the last axis does not have one index per chunk.
        ValueError: if a chunk is empty or longer than `MAX_BITS`.
    """
    _check(chunks)
    if len(chunks) == 1:
        indices = indices[..., None]
    elif not indices.ndim or indices.shape[-1] != len(chunks):
        raise TokenError(f"indices of shape {tuple(indices.shape)} must have {len(chunks)} on the last axis, one per chunk of {tuple(chunks)}")
    masks = [2 ** torch.arange(size, dtype=torch.int64, device=indices.device) for size in chunks]
    if order == "msb":
        masks = [mask.flip(0) for mask in masks]
    return torch.cat([(part[..., None] & mask) != 0 for part, mask in zip(indices.unbind(dim=-1), masks, strict=True)], dim=-1)


def _check(chunks: Sequence[int]) -> None:
    if not chunks or not all(1 <= size <= MAX_BITS for size in chunks):
        raise ValueError(f"chunks {tuple(chunks)} must each hold 1 to {MAX_BITS} bits; use several indices for more bits")
