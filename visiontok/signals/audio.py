"""Sound: from tensors and arrays to the batch that an audio model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from visiontok.base.config import Positive
from visiontok.base.errors import SignalError
from visiontok.signals.batch import SignalBatch
from visiontok.signals.preprocessing import Preprocessing, SignalLike, as_items, checked_values, tensor_of
from visiontok.signals.spec import SignalSpec


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
        """A batch (B, C, T) in [-1, 1] from such a batch, sounds (C, T) or (T,), mappings with "array" and "sampling_rate", or a list of them.

        Raises:
            SignalError: naming what was found and what is expected.
        """
        if isinstance(signal, Tensor) and signal.ndim == 3:
            return SignalBatch.of(checked_values(signal, self.spec, "the batch"))
        return SignalBatch.stack([self._sound(item, f"item {number}") for number, item in enumerate(as_items(signal))])

    def _sound(self, item: SignalLike, name: str) -> Tensor:
        """(C, T)."""
        if isinstance(item, Mapping):
            rate = item.get("sampling_rate")
            if rate != self.sample_rate:
                raise SignalError(f"{name} has {rate} samples per second; this model takes {self.sample_rate}: resample it first")
            item = item.get("array", ())
        if isinstance(item, np.ndarray):
            item = tensor_of(item, name)
        if not isinstance(item, Tensor) or item.ndim not in (1, 2):
            found = f"a tensor of shape {tuple(item.shape)}" if isinstance(item, Tensor) else type(item).__name__
            raise SignalError(f"{name} is {found}; expected samples (C, T) or (T,) as a tensor or an array, or a batch {self.spec.shape}")
        return checked_values((item if item.ndim == 2 else item[None])[None], self.spec, name)[0]
