"""The center of every signal, as evaluation sees what training cuts at random."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from visiontok.data.source import MappedSource, Sample, Source, fingerprint
from visiontok.data.train_loader import cut, window_of
from visiontok.signals import Preprocessing


class CenterCut(MappedSource):
    """Another source with every signal preprocessed and cut to the size of training; those that are shorter stay whole.

    Args:
        source: of the signals.
        size: as in `LoaderConfig`.
        preprocessing: of the model.
    """

    def __init__(self, source: Source, size: int | tuple[int, ...], *, preprocessing: Preprocessing) -> None:
        super().__init__(source)
        self._size, self._preprocessing, self._window = size, preprocessing, window_of(size, source.modality)

    @property
    def identity(self) -> str:
        return fingerprint("centers", len(self), [self._source.identity, str(self._size)])

    def read(self, index: int) -> Sample:
        sample = self._source.read(index)
        (values,) = self._preprocessing([sample.signal])
        assert self._window is not None
        where = cut(values.shape[1:], self._window, np.random.default_rng(0), at_center=True)
        return replace(sample, signal=values[where])
