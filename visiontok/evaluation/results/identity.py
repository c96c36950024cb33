"""Which model and which samples a result is about, and when it was made."""

from __future__ import annotations

import hashlib
import time
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch.distributed as dist
from torch import Tensor

from visiontok.base.errors import UnknownNameError
from visiontok.core.model import Model, weights_sha256
from visiontok.data import DataConfig, SkipReport, Source
from visiontok.evaluation.metrics.accumulator import merge_across_processes
from visiontok.evaluation.metrics.per_sample import PerSample
from visiontok.evaluation.results.result import DataIdentity, ModelIdentity, Run
from visiontok.registry import family_of
from visiontok.signals import SignalBatch


class Clock:
    """Times a run, from its creation."""

    def __init__(self) -> None:
        self._started, self._seconds = datetime.now(timezone.utc), time.perf_counter()

    def run(self, world_size: int) -> Run:
        """The record of the run."""
        return Run(
            started=self._started.isoformat(timespec="seconds"),
            finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - self._seconds, 3),
            processes=world_size,
        )


class Fingerprint:
    """Which samples were evaluated: their number and sizes, and a hash of their values.

    Attributes:
        table: an accumulator with one row per sample.
    """

    def __init__(self) -> None:
        self.table = PerSample()

    @property
    def count(self) -> int:
        """How many this process has seen."""
        return len(self.table)

    def update(self, indices: Tensor, samples: SignalBatch) -> None:
        """Add a batch: 8-bit images, or signals of any kind."""
        digests = [hashlib.sha256(np.ascontiguousarray(sample.movedim(0, -1).cpu().numpy()).tobytes()).digest() for sample in samples]
        rows = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)
        self.table.update(indices, {"digest": rows, "size": samples.sizes})

    def samples_sha256(self) -> str:
        """Over the samples by rising index."""
        return hashlib.sha256(self.table.compute()["digest"].tobytes()).hexdigest()

    def indices(self) -> np.ndarray:
        """(N,) int64, rising."""
        return self.table.compute()["indices"]

    def identity(self, config: DataConfig, source: Source, report: SkipReport) -> DataIdentity:
        """Over all processes, whose tables are merged here.

        Raises:
            EvaluationError: if there was no sample, or one was evaluated twice.
        """
        merge_across_processes(self.table)
        table = self.table.compute()
        skips = SkipReport()
        for other in _gathered(report):
            skips.update(other.kept)
        sizes = np.unique(table["size"], axis=0)
        return DataIdentity(
            config=config.to_dict(),
            identity=source.identity,
            samples=len(table["indices"]),
            size=tuple(int(extent) for extent in sizes[0]) if len(sizes) == 1 else None,
            samples_sha256=self.samples_sha256(),
            skipped_count=len(skips),
            skipped=tuple(f"{skip.key}: {skip.reason}" for skip in skips.kept),
        )


def model_identity(model: Model[Any], name: str) -> ModelIdentity:
    """Which model was evaluated, down to its weights."""
    try:
        family = family_of(type(model)).name
    except UnknownNameError:
        family = None
    return ModelIdentity(
        name=name,
        family=family,
        weights_sha256=weights_sha256(model.state_dict()),
        parameters=model.num_parameters,
        config=model.config.to_dict(),
    )


def rank_and_world_size() -> tuple[int, int]:
    """Rank and number of processes; (0, 1) outside torch.distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _gathered(report: SkipReport) -> list[SkipReport]:
    _, world_size = rank_and_world_size()
    if world_size == 1:
        return [report]
    reports: list[Any] = [None] * world_size
    dist.all_gather_object(reports, report)
    return reports
