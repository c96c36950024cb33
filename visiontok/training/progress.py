"""What a person sees of a run: a progress bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class ProgressDisplay:
    """Shows step, throughput, losses and the time that is left.

    Args:
        console: where to show it; silent for all processes but the first.
        start, steps: finished and wanted steps.
        unit: what throughput counts, for example "images".
    """

    def __init__(self, console: Console, *, start: int, steps: int, unit: str) -> None:
        self.console, self.steps, self.unit = console, steps, unit
        self._began, self._start = time.monotonic(), start
        self._bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, completed=start)

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def step(self, done: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done)

    def numbers(self, done: int, values: Mapping[str, float], *, per_second: float) -> None:
        """Show the numbers of a logged step, but for learning rates and gradient norms."""
        shown = {name: value for name, value in values.items() if not name.endswith(("lr", "grad_norm"))}
        text = f"{per_second:.4g} {self.unit}/s  " + "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        self._bar.update(self._task, description=text)
        if not self.console.is_terminal:
            left = (time.monotonic() - self._began) / max(1, done - self._start) * (self.steps - done)
            self.console.print(f"step {done}/{self.steps}  {text}  {_clock(left)} left", soft_wrap=True, highlight=False, markup=False)

    def say(self, text: str) -> None:
        """One line that stays."""
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
