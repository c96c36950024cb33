"""Bits and the ids they spell: the bits of a latent, cut into chunks, become one id per chunk. Exact for any width: int64 throughout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

BitOrder = Literal["msb", "lsb"]
"""Whether the first bit of a chunk is its most or its least significant one."""

MAX_BITS = 62
"""Bits of one id at most: the number of ids, 2 ** bits, is itself an int64."""


def bits_to_ids(bits: Tensor, *, chunks: Sequence[int], order: BitOrder) -> Tensor:
    """The ids that bits spell.

    Args:
        bits: (..., D) bool, or integers 0 and 1.
        chunks: bits per id, in the order of the bits; their sum is D.
        order: significance of the bits within a chunk.

    Returns:
        int64 ids (..., C) for C chunks, or (...) for a single chunk, each in [0, 2 ** bits of its chunk).

    Raises:
        ValueError: if the chunks do not add up to D, or one is empty or longer than `MAX_BITS`.
    """
    _check(chunks)
    if bits.shape[-1] != sum(chunks):
        raise ValueError(f"chunks {tuple(chunks)} hold {sum(chunks)} bits, but there are {bits.shape[-1]} per position")
    ids = torch.zeros(*bits.shape[:-1], len(chunks), dtype=torch.int64, device=bits.device)
    for number, part in enumerate(bits.split(list(chunks), dim=-1)):
        digits = part.unbind(dim=-1)
        for digit in digits if order == "msb" else reversed(digits):
            ids[..., number].mul_(2).add_(digit)
    return ids[..., 0] if len(chunks) == 1 else ids


def ids_to_bits(ids: Tensor, *, chunks: Sequence[int], order: BitOrder) -> Tensor:
    """Inverse of `bits_to_ids`.

    Args:
        ids: int64 (..., C) for C chunks, or (...) for a single chunk.
        chunks: bits per id.
        order: significance of the bits within a chunk.

    Returns:
        bool (..., D).

    Raises:
        ValueError: if the last axis does not have one id per chunk, or a chunk is empty or longer than `MAX_BITS`.
    """
    _check(chunks)
    if len(chunks) == 1:
        ids = ids[..., None]
    elif not ids.ndim or ids.shape[-1] != len(chunks):
        raise ValueError(f"ids of shape {tuple(ids.shape)} must have {len(chunks)} on the last axis, one for each of the chunks {tuple(chunks)}")
    masks = [2 ** torch.arange(size, device=ids.device) for size in chunks]
    if order == "msb":
        masks = [mask.flip(0) for mask in masks]
    return torch.cat([(number[..., None] & mask) != 0 for number, mask in zip(ids.unbind(dim=-1), masks, strict=True)], dim=-1)


def _check(chunks: Sequence[int]) -> None:
    if not chunks or not all(1 <= size <= MAX_BITS for size in chunks):
        raise ValueError(f"chunks {tuple(chunks)} must each hold 1 to {MAX_BITS} bits; spell more bits in several ids")
