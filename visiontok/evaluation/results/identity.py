"""Which model and which pictures a result is about, and when it was made."""

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
from visiontok.evaluation.metrics.per_sample import PerImage
from visiontok.evaluation.results.result import DataIdentity, ModelIdentity, Run
from visiontok.registry import family_of


class Clock:
    """Times a run, from its making on."""

    def __init__(self) -> None:
        self._started, self._seconds = datetime.now(timezone.utc), time.perf_counter()

    def run(self, world_size: int) -> Run:
        """What to write down of it."""
        return Run(
            started=self._started.isoformat(timespec="seconds"),
            finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - self._seconds, 3),
            processes=world_size,
        )


class Pictures:
    """Which pictures were measured: their number and size, and a fingerprint of their pixels.

    Attributes:
        table: an accumulator with one row per picture.
    """

    def __init__(self) -> None:
        self.table = PerImage()

    @property
    def count(self) -> int:
        """How many this process has seen."""
        return len(self.table)

    def update(self, numbers: Tensor, images: Tensor) -> None:
        """Take in a batch (B, 3, H, W) uint8."""
        rows = images.permute(0, 2, 3, 1).contiguous().numpy()
        digests = np.frombuffer(b"".join(hashlib.sha256(row.tobytes()).digest() for row in rows), dtype=np.uint8).reshape(-1, 32)
        self.table.update(numbers, digest=digests, height=np.full(len(images), images.shape[2]), width=np.full(len(images), images.shape[3]))

    def pixels_sha256(self) -> str:
        """Over the pictures in the order of their numbers."""
        return hashlib.sha256(self.table.compute()["digest"].tobytes()).hexdigest()

    def numbers(self) -> np.ndarray:
        """(N,) int64, rising."""
        return self.table.compute()["numbers"]

    def identity(self, config: DataConfig, source: Source, report: SkipReport) -> DataIdentity:
        """Over all processes, whose tables are merged here.

        Raises:
            EvaluationError: if there was no picture, or one was measured twice.
        """
        merge_across_processes(self.table)
        table = self.table.compute()
        skips = SkipReport()
        for other in _gathered(report):
            skips.update(other.kept)
        return DataIdentity(
            config=config.to_dict(),
            identity=source.identity,
            images=len(table["numbers"]),
            size=(int(table["height"][0]), int(table["width"][0])),
            pixels_sha256=self.pixels_sha256(),
            skipped_count=len(skips),
            skipped=tuple(f"{skip.key}: {skip.reason}" for skip in skips.kept),
        )


def model_identity(model: Model[Any], name: str) -> ModelIdentity:
    """What was measured, down to its weights."""
    try:
        family = family_of(type(model)).name
    except UnknownNameError:
        family = None
    return ModelIdentity(
        name=name,
        family=family,
        weights_sha256=weights_sha256(model.state_dict()),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        config=model.config.to_dict(),
    )


def processes() -> tuple[int, int]:
    """Rank and number of processes; (0, 1) outside torch.distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _gathered(report: SkipReport) -> list[SkipReport]:
    _, world_size = processes()
    if world_size == 1:
        return [report]
    reports: list[Any] = [None] * world_size
    dist.all_gather_object(reports, report)
    return reports
