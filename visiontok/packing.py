"""Exact bit packing of integers of mixed widths: `ceil(log2 V)` bits for an id out of V, most significant bit first."""

from __future__ import annotations

import numpy as np

from visiontok.errors import TokenError


def bit_width(vocab_size: int) -> int:
    """Bits that hold every id in `range(vocab_size)`: `ceil(log2 vocab_size)`, 0 when there is one id only."""
    return (vocab_size - 1).bit_length()


def pack_bits(values: np.ndarray, widths: np.ndarray) -> bytes:
    """Concatenate `values` (n,), each in `widths` (n,) bits; the last byte is filled with zeros.

    Raises:
        TokenError: if a value does not fit its width.
    """
    values = np.asarray(values, dtype=np.uint64)
    widths = np.asarray(widths, dtype=np.int64)
    too_wide = np.flatnonzero(values >> np.minimum(widths, 63).astype(np.uint64) != 0)
    if len(too_wide):
        first = too_wide[0]
        raise TokenError(f"id {values[first]} at place {first} does not fit in {widths[first]} bits")
    bits, place = _bit_places(widths)
    shift = (widths[place] - 1 - bits).astype(np.uint64)
    return np.packbits(((values[place] >> shift) & np.uint64(1)).astype(np.uint8)).tobytes()


def unpack_bits(data: bytes, widths: np.ndarray) -> np.ndarray:
    """Inverse of `pack_bits`: (n,) int64.

    Raises:
        TokenError: if `data` is not exactly as long as `widths` say, or its filling bits are not zero.
    """
    widths = np.asarray(widths, dtype=np.int64)
    total = int(widths.sum())
    if len(data) != (total + 7) // 8:
        raise TokenError(f"{len(data)} bytes were given where {len(widths)} ids need {(total + 7) // 8}: truncated, or of another layout")
    stream = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    if stream[total:].any():
        raise TokenError("the filling bits of the last byte are not zero: the bytes are of another layout or damaged")
    bits, place = _bit_places(widths)
    shift = (widths[place] - 1 - bits).astype(np.uint64)
    values = np.zeros(len(widths), dtype=np.uint64)
    np.bitwise_or.at(values, place, stream[:total].astype(np.uint64) << shift)
    return values.astype(np.int64)


def _bit_places(widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every bit of the stream: its number within its value, and the value's place."""
    place = np.repeat(np.arange(len(widths)), widths)
    starts = np.cumsum(widths) - widths
    return np.arange(len(place)) - starts[place], place
