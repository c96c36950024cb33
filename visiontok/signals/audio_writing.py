"""Writing sound."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from visiontok.base.errors import SignalError
from visiontok.base.files import replacing
from visiontok.base.optional import import_optional

FORMATS = (".wav", ".flac")

_BLOCK = 2**20  # samples of a channel that are converted at once


def save_audio(sound: Tensor, path: str | Path, *, rate: int, bits: Literal[16, 24] = 16) -> int:
    """Write (C, T) in [-1, 1] as wav or flac, by the suffix of the path; the file gets its name when it is whole.

    Args:
        sound: values beyond the range are clipped.
        path: of the file.
        rate: samples per second.
        bits: per sample.

    Returns:
        The number of samples at or beyond full scale, which may be clipped.

    Raises:
        SignalError: for other suffixes, shapes, and values that are not finite.
        OSError: if the file cannot be written.
        DependencyError: without the extra `audio`.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise SignalError(f"{path} has the suffix {path.suffix!r}; sound is written as {' or '.join(FORMATS)}")
    if sound.ndim != 2 or not bool(sound.isfinite().all()):
        raise SignalError(f"expected finite samples (C, T) to write to {path}, got shape {tuple(sound.shape)}")
    soundfile, full = import_optional("soundfile", extra="audio"), 0
    with replacing(path) as temporary, soundfile.SoundFile(temporary, "w", rate, len(sound), f"PCM_{bits}") as file:
        for block in sound.split(_BLOCK, dim=1):
            samples = block.detach().double().cpu().numpy()
            file.write(_integers(samples, bits))
            full += int((np.abs(samples) >= 1.0).sum())
    return full


def encode_audio(sound: Tensor, *, rate: int) -> bytes:
    """(C, T) in [-1, 1] as the bytes of a flac file of 16 bits; values beyond the range are clipped.

    Raises:
        DependencyError: without the extra `audio`.
    """
    buffer = BytesIO()
    samples = sound.detach().double().cpu().numpy()
    import_optional("soundfile", extra="audio").write(buffer, _integers(samples, 16), rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _integers(samples: np.ndarray, bits: int) -> np.ndarray:
    """(C, T) as (T, C) of 16 bits, or of 32 of which the upper ones are used. Full scale is 2^(bits - 1), as for readers, so that what was read is
    written as it was; libsndfile itself scales by one less."""
    full = 2 ** (bits - 1)
    rounded = np.clip(np.rint(samples * full), -full, full - 1)
    return rounded.astype(np.int16).T if bits == 16 else (rounded.astype(np.int32) << (32 - bits)).T
