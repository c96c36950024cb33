"""Batches of whatever a suite evaluates: every sample once, in order, each at its exact size."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from visiontok.base.errors import DataError
from visiontok.data import Batch, ImageSource, SkipReport
from visiontok.data.batch import make_batch
from visiontok.data.prefetch import prefetch
from visiontok.data.skips import UNUSABLE, Skip
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.signals import Preprocessing, SignalBatch


@dataclass(frozen=True, eq=False)
class Loaded:
    """Some samples of a source.

    Attributes:
        signals: uint8 for RGB images, as they would lie in files; floats for other signals.
        facts: their indices, keys, labels, captions and numbers of objects.
    """

    signals: SignalBatch
    facts: Batch


class SignalLoader:
    """Reads samples, in a thread or in worker processes. One that cannot be used is skipped and reported.

    Attributes:
        report: what could not be used so far.
    """

    def __init__(self, source: ImageSource, preprocessing: Preprocessing, *, batch_size: int, num_workers: int = 0) -> None:
        """Load samples of a source.

        Args:
            source: of the samples.
            preprocessing: that they go through; signals of different sizes may share a batch where it keeps sizes.
            batch_size: samples per batch.
            num_workers: processes that read.
        """
        self._source, self._preprocessing, self._batch_size, self._num_workers = source, preprocessing, batch_size, num_workers
        self.report = SkipReport(source.skipped, keep=sys.maxsize)

    @property
    def total(self) -> int:
        """Samples of the source."""
        return len(self._source)

    def read(self, indices: Sequence[int]) -> Loaded:
        """Some samples.

        Raises:
            SignalError, DataError: if one of them cannot be used.
        """
        samples = [self._source.read(index) for index in indices]
        signals = SignalBatch.stack([self._preprocessing(sample.image).values[0] for sample in samples])
        return self._loaded(signals, make_batch(signals.values, samples, indices, step=0, skipped=()))

    def batches(self, start: int, stop: int) -> Generator[tuple[int, Loaded], None, None]:
        """The samples from `start` to `stop`, each batch with the position behind it.

        Raises:
            DataError: if all samples of the source were read and none could be used.
        """
        parts = _Parts(self._source, self._preprocessing, range(start, stop), self._batch_size)
        used, last = 0, None
        for signals, facts in prefetch(parts.make, range(-(-(stop - start) // self._batch_size)), num_workers=self._num_workers):
            self.report.update(facts.skipped)
            used += len(facts)
            last = facts.skipped[-1] if facts.skipped else last
            if signals is not None:
                yield min(start + (facts.step + 1) * self._batch_size, stop), self._loaded(signals, facts)
        if last is not None and not used and stop - start == len(self._source):
            raise DataError(f"none of the {stop - start} samples can be used; the last: {last.reason}")

    def _loaded(self, signals: SignalBatch, facts: Batch) -> Loaded:
        spec = self._preprocessing.spec
        if spec.modality == "image" and spec.is_rgb:
            signals = SignalBatch(to_uint8(signals.values), signals.sizes)
        return Loaded(signals, facts)


class _Parts:
    """The batches of a range of samples, by number."""

    def __init__(self, source: ImageSource, preprocessing: Preprocessing, indices: range, batch_size: int) -> None:
        self._source, self._preprocessing, self._indices, self._batch_size = source, preprocessing, indices, batch_size

    def make(self, number: int) -> tuple[SignalBatch | None, Batch]:
        signals: list[Tensor] = []
        samples, used, skipped = [], [], []
        for index in self._indices[number * self._batch_size : (number + 1) * self._batch_size]:
            try:
                sample = self._source.read(index)
                signals.append(self._preprocessing(sample.image).values[0])
            except UNUSABLE as error:
                skipped.append(Skip(self._source.key(index), str(error)))
                continue
            samples.append(sample)
            used.append(index)
        batch = SignalBatch.stack(signals) if signals else None
        return batch, make_batch(torch.empty(0, dtype=torch.float32) if batch is None else batch.values, samples, used, step=number, skipped=skipped)
