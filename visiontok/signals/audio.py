"""Sound: from files, arrays and tensors to the batch that an audio model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from visiontok.base.config import Positive
from visiontok.base.errors import SignalError
from visiontok.signals.audio_conversion import as_floats, mixed, resampled
from visiontok.signals.audio_reading import Sound, read_audio
from visiontok.signals.batch import SignalBatch
from visiontok.signals.preprocessing import Preprocessing, SignalLike, as_items, checked_values, tensor_of
from visiontok.signals.spec import SignalSpec

MAX_PEAK = 4.0
"""Decoded files exceed full scale by some dB at most; what is louder has another unit."""


class AudioPreprocessing(Preprocessing):
    """Converts sound to the model's channels, and pads it with silence to whole frames.

    Attributes:
        sample_rate: in Hz.
        channels: 1 for mono, 2 for stereo.
        multiple_of: samples of a frame (the hop); sound is padded to a multiple of it before the encoder, and cropped again after the decoder.
        usual_frames: frames of a sound for probing.
    """

    sample_rate: Positive
    channels: Positive = 1
    multiple_of: Positive = 1
    usual_frames: Positive = 16

    @property
    def spec(self) -> SignalSpec:
        return SignalSpec(modality="audio", channels=self.channels, low=-1.0, high=1.0, rate=float(self.sample_rate))

    @property
    def fixed_size(self) -> tuple[int, ...] | None:
        return None

    @property
    def usual_size(self) -> tuple[int, ...]:
        return (self.usual_frames * self.multiple_of,)

    @property
    def multiples(self) -> tuple[int, ...]:
        return (self.multiple_of,)

    def __call__(self, signal: SignalLike | Sequence[SignalLike]) -> SignalBatch:
        """A batch (B, C, T) in [-1, 1].

        From such a batch; a tensor or an array (C, T) or (T,) with the model's rate and channels; a path, an address or the bytes of a file; a
        `Sound`; a mapping as `datasets` gives it, {"array", "sampling_rate"} or {"bytes", "path"}; or a list of them. All but tensors and arrays are
        mixed and resampled, see `audio_conversion`; their loudness stays, and what then exceeds [-1, 1] is clipped.

        Raises:
            SignalError: naming what was found and what is expected.
            DependencyError: for files and other rates, without the extra `audio`.
        """
        if isinstance(signal, Tensor) and signal.ndim == 3:
            return SignalBatch.of(checked_values(signal, self.spec, "the batch"))
        return SignalBatch.stack([self._sound(item, f"item {number}") for number, item in enumerate(as_items(signal))])

    def _sound(self, item: SignalLike, name: str) -> Tensor:
        """(C, T)."""
        if isinstance(item, Mapping):
            if item.get("array") is not None:
                return self._converted(_sampled(item, name), name)
            item = _encoded(item, name)
        if isinstance(item, Sound):
            return self._converted(item, name)
        if isinstance(item, str | Path | bytes):
            name = str(item) if isinstance(item, str | Path) else name
            return self._converted(read_audio(item, name=name), name)
        if isinstance(item, np.ndarray):
            item = tensor_of(item, name)
        if not isinstance(item, Tensor) or item.ndim not in (1, 2):
            found = f"a tensor of shape {tuple(item.shape)}" if isinstance(item, Tensor) else type(item).__name__
            raise SignalError(f"{name} is {found}; expected samples (C, T) or (T,) as a tensor or an array, or a batch {self.spec.shape}")
        return checked_values((item if item.ndim == 2 else item[None])[None], self.spec, name)[0]

    def _converted(self, sound: Sound, name: str) -> Tensor:
        """(C, T) with the model's channels and rate."""
        peak = max(float(sound.samples.max()), -float(sound.samples.min()))
        if not peak <= MAX_PEAK:
            raise SignalError(f"{name} has values up to {peak:g}; expected values in [-1, 1]: scale it first")
        mix = mixed(sound.samples, self.channels, names=sound.channels, name=name)
        return checked_values(tensor_of(resampled(mix, sound.rate, self.sample_rate).clip(-1.0, 1.0), name)[None], self.spec, name)[0]


def _sampled(item: Mapping[str, Any], name: str) -> Sound:
    """Of a mapping with samples and their rate."""
    rate, array = item.get("sampling_rate"), item["array"]
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.integer | np.floating) or rate < 1 or not float(rate).is_integer():
        raise SignalError(f"{name} has the sampling_rate {rate!r}; expected samples per second, a whole number")
    return Sound(as_floats(array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array), name), int(rate))


def _encoded(item: Mapping[str, Any], name: str) -> str | bytes:
    """The file of a mapping that is not decoded: its bytes, or where it is."""
    held = item.get("bytes") or item.get("path")
    if not isinstance(held, str | bytes):
        raise SignalError(f"{name} is a mapping of {sorted(map(str, item))}; expected array and sampling_rate, or bytes or path")
    return held
