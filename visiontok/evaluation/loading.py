"""Batches of whatever a suite evaluates, as the metrics compare them: RGB images in 8 bits, as files store them, other signals as they are."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from dataclasses import replace

from visiontok.data import DataBatch, EvalLoader, SkipReport, Source
from visiontok.data.batch import make_batch
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.signals import Preprocessing, SignalBatch


class SignalLoader:
    """Reads samples once and in order, each at its exact size. One that cannot be used is skipped and reported."""

    def __init__(self, source: Source, preprocessing: Preprocessing, *, batch_size: int, num_workers: int = 0) -> None:
        """Load samples of a source.

        Args:
            source: of the samples.
            preprocessing: that they go through; signals of different sizes may share a batch where it keeps sizes.
            batch_size: samples per batch.
            num_workers: processes that read.
        """
        self._source, self._preprocessing, self._batch_size = source, preprocessing, batch_size
        self._loader = EvalLoader(source, preprocessing=preprocessing, batch_size=batch_size, num_workers=num_workers)
        self._loader.report = SkipReport(source.skipped, keep=sys.maxsize)

    @property
    def report(self) -> SkipReport:
        """What could not be used so far."""
        return self._loader.report

    @property
    def total(self) -> int:
        """Samples of the source."""
        return len(self._source)

    def read(self, indices: Sequence[int]) -> DataBatch:
        """Some samples.

        Raises:
            SignalError, DataError: if one of them cannot be used.
        """
        samples = [self._source.read(index) for index in indices]
        signals = [signal for sample in samples for signal in self._preprocessing([sample.signal])]
        return self._as_compared(make_batch(SignalBatch.stack(signals), samples, indices, step=0, skipped=()))

    def batches(self, start: int, stop: int) -> Generator[tuple[int, DataBatch], None, None]:
        """The samples from `start` to `stop`, each batch with the position after it.

        Raises:
            DataError: if all samples of the source were read and none could be used.
        """
        for batch in self._loader.batches(range(start, stop)):
            yield min(start + (batch.step + 1) * self._batch_size, stop), self._as_compared(batch)

    def _as_compared(self, batch: DataBatch) -> DataBatch:
        spec, signals = self._preprocessing.spec, batch.signals
        if spec.modality != "image" or not spec.is_rgb:
            return batch
        return replace(batch, signals=SignalBatch(to_uint8(signals.values), signals.sizes))
