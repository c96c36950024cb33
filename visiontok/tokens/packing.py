"""Exact bit packing of integers of mixed widths: `ceil(log2 V)` bits for an index out of V, most significant bit first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from visiontok.base.errors import TokenError

_CHUNK_BITS = 2**22  # bits expanded at a time: each takes 8 bytes while it is being shifted


def bit_width(vocab_size: int) -> int:
    """Bits that hold every index in `range(vocab_size)`: `ceil(log2 vocab_size)`, 0 when there is one only."""
    return (vocab_size - 1).bit_length()


def pack_bits(values: np.ndarray, widths: np.ndarray) -> bytes:
    """Concatenate `values` (n,), each in `widths` (n,) bits of at most 63; the last byte is filled with zeros.

    Raises:
        TokenError: if a value does not fit its width.
    """
    return pack_rows(np.asarray(values)[None], widths)[0]


def unpack_bits(data: bytes, widths: np.ndarray) -> np.ndarray:
    """Inverse of `pack_bits`: (n,) int64.

    Raises:
        TokenError: if `data` is not exactly as long as `widths` say, or its filling bits are not zero.
    """
    return unpack_rows([data], widths)[0]


def pack_rows(values: np.ndarray, widths: np.ndarray) -> list[bytes]:
    """Pack every row of `values` (B, n) like `pack_bits`, all with the same `widths` (n,).

    Raises:
        TokenError: naming the sample and the position of a value that does not fit its width.
    """
    values = np.asarray(values, dtype=np.int64)
    widths = _checked(widths)
    wrong = np.argwhere((values < 0) | (values >> widths != 0))
    if len(wrong):
        row, column = wrong[0]
        raise TokenError(f"index {values[row, column]} of sample {row} at position {column} does not fit in {widths[column]} bits")
    position, shift = _bits(widths)
    rows: list[bytes] = []
    for chunk in _chunks(len(values), len(position)):
        bits = (values[chunk][:, position] >> shift) & 1
        rows += [row.tobytes() for row in np.packbits(bits.astype(np.uint8), axis=1)]
    return rows


def unpack_rows(data: Sequence[bytes], widths: np.ndarray, *, numbers: Sequence[int] | None = None) -> np.ndarray:
    """Inverse of `pack_rows`: (B, n) int64.

    Args:
        data: one byte string per row.
        widths: (n,) bits of each value.
        numbers: what to call the rows in errors; their rows in `data` unless given.

    Raises:
        TokenError: naming the sample that is not exactly as long as `widths` say, or whose filling bits are not zero.
    """
    numbers = range(len(data)) if numbers is None else numbers
    widths = _checked(widths)
    position, shift = _bits(widths)
    size = (len(position) + 7) // 8
    for number, payload in zip(numbers, data, strict=True):
        if len(payload) != size:
            raise TokenError(f"sample {number} has {len(payload)} bytes where {len(widths)} indices need {size}: truncated, or of another layout")
    packed = np.frombuffer(b"".join(data), dtype=np.uint8).reshape(len(data), size)
    values = np.zeros((len(data), len(widths)), dtype=np.int64)
    held = widths > 0
    starts = (np.cumsum(widths) - widths)[held]
    if not len(starts):
        return values
    for chunk in _chunks(len(data), len(position)):
        stream = np.unpackbits(packed[chunk], axis=1)
        filled = np.flatnonzero(stream[:, len(position) :].any(axis=1))
        if len(filled):
            number = numbers[chunk.start + int(filled[0])]
            raise TokenError(f"the filling bits of sample {number} are not zero: the bytes are of another layout or damaged")
        values[chunk, held] = np.add.reduceat(stream[:, : len(position)].astype(np.int64) << shift, starts, axis=1)
    return values


def _checked(widths: np.ndarray) -> np.ndarray:
    widths = np.asarray(widths, dtype=np.int64)
    if len(widths) and not (widths.min() >= 0 and widths.max() <= 63):
        raise TokenError(f"indices are 64-bit integers, so widths are in [0, 63] bits; got {widths.min()} to {widths.max()}")
    return widths


def _bits(widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every bit of the stream: the position of its value, and how far it lies above that value's lowest bit."""
    position = np.repeat(np.arange(len(widths)), widths)
    ends = np.cumsum(widths)
    return position, ends[position] - 1 - np.arange(len(position))


def _chunks(rows: int, bits: int) -> Iterator[slice]:
    step = max(1, _CHUNK_BITS // max(1, bits))
    return (slice(start, start + step) for start in range(0, rows, step))
