"""Reading sound: any file that soundfile or PyAV reads becomes samples with their rate and channels, or an error that names it."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from visiontok.base.errors import SignalError
from visiontok.base.optional import import_optional
from visiontok.signals.opening import opened

MAX_BYTES = 2**30
"""The largest file that is read at all."""

MAX_VALUES = 2**28
"""The most samples, of all channels together, that are decoded: a GiB of floats, 46 minutes of stereo at 48 kHz."""

_BLOCK = 2**20  # samples of a channel that are decoded at once
_WAVE, _UNCOMPRESSED = (b"RIFF", b"RIFX", b"RF64"), (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"FORM")
_OPEN_ENDED = (0, 0xFFFFFFFF)  # what streams write as the length that they do not know
_BY_SOUNDFILE = (1, 3, 6, 7)  # codings of wav that hold as many samples as the header says: whole numbers, floats, A-law, mu-law
_MP3_LENGTHS = (b"Xing", b"Info", b"VBRI")  # what begins the frame of an mp3 that says its length; without it, the length is an estimate
_EXTENSIBLE = 0xFFFE  # the coding of a wav whose own follows in the header
_TOLERANCE = 0.1  # seconds that a header may round


@dataclass(frozen=True)
class Sound:
    """Samples as a file holds them.

    Attributes:
        samples: (C, T) float32, nominally in [-1, 1]; decoders of compressed files may go beyond.
        rate: per second.
        channels: names in order, such as ("FL", "FR"), where the file says them; by their number otherwise.
    """

    samples: np.ndarray
    rate: int
    channels: tuple[str, ...] | None = None


def read_audio(source: str | Path | bytes, *, name: str | None = None) -> Sound:
    """Read a file: wav of 8 to 64 bits, flac and aiff through soundfile; mp3, ogg, m4a and sound in videos through PyAV.

    Args:
        source: a path, an address that fsspec opens ("https://...", "s3://..."), or the bytes of a file.
        name: what errors call it.

    Raises:
        SignalError: if there is no such file, it is empty, truncated, corrupt, holds no sound or NaN, or is larger than `MAX_BYTES` or `MAX_VALUES`.
        DependencyError: without the extra `audio`.
    """
    if isinstance(source, bytes):
        name = name or f"the sound of {len(source)} bytes"
    else:
        name = name or str(source)
        source = _bytes_of(str(source), name)
    if not source:
        raise SignalError(f"{name} is empty (0 bytes)")
    sound = _with_soundfile(source, name) if source[:4] in _UNCOMPRESSED else None
    sound = sound or _with_pyav(source, name)
    if not sound.samples.size:
        raise SignalError(f"{name} holds no samples")
    if not np.isfinite(sound.samples).all():
        raise SignalError(f"{name} holds NaN or infinity")
    return sound


def _bytes_of(path: str, name: str) -> bytes:
    with opened(path, name=name) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise SignalError(f"{name} is larger than {MAX_BYTES / 2**30:.0f} GiB, which is the most that is read: cut it first")
    return data


def _with_soundfile(data: bytes, name: str) -> Sound | None:
    """None for what PyAV reads: streams whose header does not know their length, and wav of rare codings."""
    if (data[:4] in _WAVE and not _wave_is_for_soundfile(data, name)) or (data[:4] == b"fLaC" and _flac_is_open_ended(data)):
        return None
    soundfile = import_optional("soundfile", extra="audio")
    try:
        with soundfile.SoundFile(BytesIO(data)) as file:
            _check_size(file.frames * file.channels, name)
            declared, rate = file.frames, file.samplerate
            samples, count = np.empty((file.channels, declared), dtype=np.float32), 0
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                samples[:, count : count + len(block)] = block.T
                count += len(block)
    except SignalError:
        raise
    except Exception as error:  # a parser can raise anything on damaged bytes
        raise SignalError(f"{name} is truncated or corrupt: {re.sub(r'Error opening <[^>]*>: ', '', str(error))}") from error
    if count < declared:
        raise SignalError(f"{name} is truncated: it holds {count} of {declared} samples")
    return Sound(samples, rate)


def _wave_is_for_soundfile(data: bytes, name: str) -> bool:
    """False where the header of a wav leaves the length open, or names a coding of blocks.

    Raises:
        SignalError: if the file ends before the samples that its header announces.
    """
    order = ">" if data[:4] == b"RIFX" else "<"
    position, known = 12, True
    while position + 8 <= len(data):
        kind, size = data[position : position + 4], struct.unpack_from(order + "I", data, position + 4)[0]
        if kind == b"fmt " and position + 34 <= len(data):
            coding = struct.unpack_from(order + "H", data, position + 8)[0]
            if coding == _EXTENSIBLE:
                coding = struct.unpack_from(order + "H", data, position + 32)[0]
            known = coding in _BY_SOUNDFILE
        if kind == b"data":
            present = len(data) - position - 8
            if size in _OPEN_ENDED:
                return known and (data[:4] != b"RIFF" or present == 0)
            if size > present:
                raise SignalError(f"{name} is truncated: its header announces {size} bytes of samples, it has {present}")
            return known
        position += 8 + size + size % 2
    return True


def _flac_is_open_ended(data: bytes) -> bool:
    """Whether the header of a flac leaves the number of samples open: 36 bits of its first block, STREAMINFO."""
    return len(data) >= 26 and not int.from_bytes(data[21:26], "big") & (2**36 - 1)


def _with_pyav(data: bytes, name: str) -> Sound:
    av = import_optional("av", extra="audio")
    try:
        with av.open(BytesIO(data)) as container:
            if not container.streams.audio:
                raise SignalError(f"{name} holds no sound")
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="flt")  # PyAV reads beyond its memory where each of many channels has a plane of its own
            parts, count, layout, rate = [], 0, None, 0
            for frame in container.decode(stream):
                layout, rate = layout or frame.layout, rate or frame.sample_rate
                if (frame.layout.name, frame.sample_rate) != (layout.name, rate):
                    raise SignalError(f"{name} changes from {rate} Hz {layout.name} to {frame.sample_rate} Hz {frame.layout.name}: split it")
                for plane in resampler.resample(frame):
                    parts.append(plane.to_ndarray().reshape(-1, len(layout.channels)).T)
                    count += parts[-1].size
                    _check_size(count, name)
            whole = np.concatenate(parts, axis=1) if parts else np.empty((1, 0), dtype=np.float32)
            if "mp4" in container.format.name and stream.duration and stream.time_base:  # the encoder's padding at the end stays in
                whole = whole[:, : round(stream.duration * stream.time_base * rate)]
            announced = _announced_seconds(container, data)
            if rate and announced is not None and whole.shape[1] < (announced - _TOLERANCE) * rate:
                raise SignalError(f"{name} is truncated: it holds {whole.shape[1] / rate:.1f} of {announced:.1f} seconds")
            channels = () if layout is None else tuple(channel.name for channel in layout.channels)
            named = bool(channels) and "NONE" not in channels
            return Sound(np.ascontiguousarray(whole, dtype=np.float32), rate, channels if named else None)
    except SignalError:
        raise
    except Exception as error:  # a decoder can raise anything on damaged bytes
        raise SignalError(f"{name} is not a sound file of a known format, or it is truncated or corrupt: {error}") from error


def _announced_seconds(container: Any, data: bytes) -> float | None:
    """What the header says of the length, where it says it of the sound and as a fact; None otherwise."""
    fact = any(mark in data[:8192] for mark in _MP3_LENGTHS) if container.format.name == "mp3" else "matroska" in container.format.name
    return container.duration / 1e6 if fact and container.duration and len(container.streams) == 1 else None


def _check_size(values: int, name: str) -> None:
    if values > MAX_VALUES:
        raise SignalError(f"{name} has more than the {MAX_VALUES} samples that are decoded: cut it first")
