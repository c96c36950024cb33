"""Decoded signals kept in memory, so that training on a small set is not bound by decoding them again every epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from PIL import Image
from torch import Tensor

from visiontok.data.source import MappedSource, Sample, Source
from visiontok.signals import SignalLike
from visiontok.signals.audio_reading import Sound
from visiontok.signals.video_reading import Clip


class CachedSource(MappedSource):
    """Another source with prepared signals, which are kept until the budget is spent; later ones are read and prepared every time."""

    def __init__(self, source: Source, prepare: Callable[[SignalLike], SignalLike], *, max_bytes: int) -> None:
        """`prepare` is deterministic; what it raises is raised by `read`."""
        super().__init__(source)
        self._prepare = prepare
        self._left = max_bytes
        self._held: dict[int, Sample] = {}

    @property
    def identity(self) -> str:
        return self._source.identity

    def read(self, index: int) -> Sample:
        held = self._held.get(index)
        if held is not None:
            return held
        sample = self._source.read(index)
        sample = replace(sample, signal=self._prepare(sample.signal))
        size = _num_bytes(sample.signal)
        if size is not None and size <= self._left:
            self._left -= size
            self._held[index] = sample
        return sample


def _num_bytes(signal: SignalLike) -> int | None:
    """Memory of a decoded signal; None for what is not decoded."""
    if isinstance(signal, Image.Image):
        return len(signal.getbands()) * signal.width * signal.height
    if isinstance(signal, Tensor | np.ndarray):
        return signal.nbytes
    if isinstance(signal, Sound):
        return signal.samples.nbytes
    if isinstance(signal, Clip):
        return signal.frames.nbytes
    if isinstance(signal, Mapping):
        return sum(_num_bytes(part) or 0 for part in signal.values())
    return None
