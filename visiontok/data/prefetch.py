"""Prefetching of batches in worker processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from visiontok.base.errors import VisiontokError

T = TypeVar("T")


def prefetch(make: Callable[[int], T], numbers: range, *, num_workers: int) -> Iterator[T]:
    """`make(number)` for every number, in order; what it raises is raised here.

    Args:
        make: builds the batch of that number; the same in every process.
        num_workers: processes; 0 makes batches in this one, when they are requested.
    """
    # A generator of its own, since a loader otherwise draws from torch's global one, on which a resumed training run depends.
    loader: DataLoader[Any] = DataLoader(
        _Maker(make),
        batch_size=None,
        sampler=numbers,
        num_workers=num_workers,
        collate_fn=_unchanged,
        generator=torch.Generator(),
        worker_init_fn=_leave_signals_to_the_parent,
    )
    for item in loader:
        if isinstance(item, VisiontokError):
            raise item
        yield item


class _Maker(Dataset[Any]):
    """Gives errors back as values: raised in a worker, their message would become a traceback."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self._make = make

    def __getitem__(self, number: int) -> Any:
        try:
            return self._make(number)
        except VisiontokError as error:
            return error


def _unchanged(item: Any) -> Any:
    return item


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C, and a SIGTERM to all processes of a job, reach the workers too; dead workers would keep the parent from ending in good order."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
