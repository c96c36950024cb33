"""Progress of the demo: one line when a stage begins, one when it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Stages:
    """Announces and times the stages of a run.

    Args:
        console: where they are announced.
        count: number of stages.

    Attributes:
        seconds: of every finished stage, by title.
    """

    def __init__(self, console: Console, *, count: int) -> None:
        self.console, self.count = console, count
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._began

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Announce and time the enclosed block."""
        self._say(f"[{len(self.seconds) + 1}/{self.count}] {title}")
        began = time.perf_counter()
        yield
        self.seconds[title] = time.perf_counter() - began
        self._say(f"      done in {clock(self.seconds[title])}, {clock(self.elapsed)} since the start")

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
