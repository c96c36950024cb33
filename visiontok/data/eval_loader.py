"""Batches for evaluating and for tokenizing: every sample once, in order, preprocessed as the model requires."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from torch import Tensor

from visiontok.base.errors import ConfigError, DataError
from visiontok.data.batch import DataBatch, make_batch
from visiontok.data.prefetch import prefetch
from visiontok.data.skips import UNUSABLE, Skip, SkipReport
from visiontok.data.source import Source
from visiontok.signals import Preprocessing, SignalBatch


class EvalLoader:
    """The samples of a source, each exactly once and in order, whatever the number of processes.

    A sample that cannot be used is skipped and reported.

    Attributes:
        report: what could not be used so far.
    """

    def __init__(
        self, source: Source, *, preprocessing: Preprocessing, batch_size: int, num_workers: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        """Process `rank` of `world_size` loads one contiguous share; the shares in turn are the whole, without padding.

        Args:
            source: of the signals.
            preprocessing: of the model.
            batch_size: samples per batch of this process.
            num_workers: processes that prepare batches.
            rank: of this process.
            world_size: number of processes.
        """
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ConfigError(f"batch_size {batch_size} must be at least 1 and rank {rank} below world_size {world_size}")
        self.report = SkipReport(source.skipped)
        self._source = source
        self._preprocessing = preprocessing
        self._batch_size = batch_size
        self._num_workers = num_workers
        self._rank, self._world_size = rank, world_size

    def batches(self, indices: range | None = None) -> Generator[DataBatch, None, None]:
        """This process's batches.

        Args:
            indices: the part of the source to go through, for example the rest of an interrupted run; None is the whole source.

        Raises:
            DataError: if the whole source was gone through and no sample could be used.
        """
        whole = range(len(self._source)) if indices is None else indices
        share = whole[len(whole) * self._rank // self._world_size : len(whole) * (self._rank + 1) // self._world_size]
        parts = _Parts(self._source, self._preprocessing, share, self._batch_size)
        used, last = 0, None
        for batch in prefetch(parts.make, range(-(-len(share) // self._batch_size)), num_workers=self._num_workers):
            self.report.update(batch.skipped)
            used += len(batch)
            last = batch.skipped[-1] if batch.skipped else last
            if len(batch):
                yield batch
        if last is not None and not used and len(share) == len(self._source):
            raise DataError(f"none of the {len(share)} samples can be used; the last: {last.reason}")

    def __iter__(self) -> Iterator[DataBatch]:
        return self.batches()


class _Parts:
    """The batches of one share, by index."""

    def __init__(self, source: Source, preprocessing: Preprocessing, share: range, batch_size: int) -> None:
        self._source, self._preprocessing, self._share, self._batch_size = source, preprocessing, share, batch_size

    def make(self, number: int) -> DataBatch:
        signals: list[Tensor] = []
        samples, used = [], []
        skipped: list[Skip] = []
        for index in self._share[number * self._batch_size : (number + 1) * self._batch_size]:
            try:
                sample = self._source.read(index)
                signals += self._preprocessing([sample.signal])
                samples.append(sample)
                used.append(index)
            except UNUSABLE as error:
                skipped.append(Skip(self._source.key(index), str(error)))
        batch = SignalBatch.stack(signals) if signals else SignalBatch.of(self._preprocessing.blank(samples=0))
        return make_batch(batch, samples, used, step=number, skipped=skipped)
