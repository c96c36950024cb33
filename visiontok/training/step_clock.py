"""How long the steps of a training take, and how much of that they wait for their batch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


class StepClock:
    """Times steps, each from the request of its batch to `done`.

    Attributes:
        seconds: of all steps since the last reset.
        waited: of these, for batches.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all steps."""
        self.seconds, self.waited = 0.0, 0.0
        self._began = self._loaded = time.perf_counter()

    def next(self, batches: Iterator[T]) -> T:
        """The next batch, with which a step begins."""
        self._began = time.perf_counter()
        batch = next(batches)
        self._loaded = time.perf_counter()
        return batch

    def done(self) -> None:
        """The step ended."""
        self.seconds += time.perf_counter() - self._began
        self.waited += self._loaded - self._began

    @property
    def loader_share(self) -> float | None:
        """The share of the steps' time, from 0 to 1, that they waited for batches; None before the first step."""
        return self.waited / self.seconds if self.seconds else None


def bottleneck(loader_share: float) -> str:
    """What limits the speed of a training that waits this share of its time, from 0 to 1, for batches: data or computation."""
    return "data" if loader_share > 0.5 else "computation"


def loader_in_words(loader_share: float) -> str:
    """The share, and what it means."""
    return f"{loader_share:.0%} of a step's time; the bottleneck is {bottleneck(loader_share)}"
