"""Sound of any rate and channels as a model takes it: resampling, and mixing by stated rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visiontok.base.errors import SignalError
from visiontok.base.optional import import_optional

_BY_NUMBER = {
    1: ("FC",),
    2: ("FL", "FR"),
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
"""Names of channels where a file does not say them: the order of WAV."""

_BLOCK = 2**20  # samples of a channel that are mixed at once
_HALF = 0.5**0.5
_LEFT = {"FL": 1.0, "FC": _HALF, "BL": _HALF, "SL": _HALF}
_RIGHT = {"FR": 1.0, "FC": _HALF, "BR": _HALF, "SR": _HALF}


def mixed(samples: np.ndarray, count: int, *, names: Sequence[str] | None = None, name: str = "the sound") -> np.ndarray:
    """Sound (C, T) with `count` channels, 1 or 2, or unchanged where it has as many.

    One channel becomes two equal ones. Two become their mean. Surround sound becomes stereo by the coefficients of ITU-R BS.775 (center and
    surround at -3 dB, no low-frequency effects), divided by their sum, so that nothing clips that did not; and mono as the mean of that.

    Args:
        samples: (C, T).
        count: of channels.
        names: of the channels; None for the order of WAV.
        name: what errors call the sound.

    Raises:
        SignalError: if there is no rule for so many channels.
    """
    own = len(samples)
    if own == count:
        return samples
    if own == 1:
        return np.repeat(samples, count, axis=0)
    known = tuple(names or _BY_NUMBER.get(own, ()))
    weights = np.array([[side.get(name, 0.0) for name in known] for side in (_LEFT, _RIGHT)], dtype=np.float32)
    if len(known) != own or count > 2 or not weights.any(axis=1).all():
        raise SignalError(
            f"{name} has {own} channels ({', '.join(known) or 'unnamed'}), for which there is no rule of mixing into {count}: mix them first"
        )
    weights /= weights.sum(axis=1, keepdims=True)
    mix = np.empty((count, samples.shape[1]), dtype=np.result_type(weights, samples))
    for start in range(0, samples.shape[1], _BLOCK):
        stereo = weights @ samples[:, start : start + _BLOCK]
        mix[:, start : start + _BLOCK] = stereo if count == 2 else stereo.mean(axis=0, keepdims=True)
    return mix


def resampled(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Sound (C, T) at another rate, by soxr in its very high quality; unchanged where the rates are equal.

    Raises:
        DependencyError: without the extra `audio`.
    """
    if rate == new_rate:
        return samples
    soxr = import_optional("soxr", extra="audio")
    result: np.ndarray = soxr.resample(np.ascontiguousarray(samples.T, dtype=np.float32), rate, new_rate, quality="VHQ")
    return np.ascontiguousarray(result.T)


def as_floats(samples: np.ndarray, name: str) -> np.ndarray:
    """(C, T) float32 of an array (C, T) or (T,): whole numbers become fractions of their range.

    Raises:
        SignalError: for other shapes and types, and where channels seem to come last.
    """
    if samples.ndim not in (1, 2) or not samples.size:
        raise SignalError(f"{name} has shape {samples.shape}; expected samples (C, T) or (T,)")
    rows = samples if samples.ndim == 2 else samples[None]
    if rows.shape[0] > 8 >= rows.shape[1]:
        raise SignalError(f"{name} has shape {rows.shape}; expected (C, T): transpose it, channels come first")
    if rows.dtype == np.uint8:
        return (rows.astype(np.float32) - 128) / 128
    if rows.dtype.kind == "i":
        return (rows / -float(np.iinfo(rows.dtype).min)).astype(np.float32)
    if rows.dtype.kind != "f":
        raise SignalError(f"{name} is an array of {rows.dtype}; expected floats in [-1, 1] or whole numbers of 8 to 64 bits")
    return rows.astype(np.float32)
