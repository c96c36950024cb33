"""Progress of a run: a progress bar with metrics below it on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text


class ProgressDisplay:
    """Shows step, throughput, losses and the time that is left.

    Args:
        console: for the output.
        start, steps: finished and total steps.
        unit: of the throughput, for example "images".
    """

    def __init__(self, console: Console, *, start: int, steps: int, unit: str) -> None:
        self.console, self.steps, self.unit = console, steps, unit
        self._began, self._start = time.monotonic(), start
        self._bar = _ProgressBar(console)
        self._task = self._bar.add_task("", total=steps, completed=start)

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def step(self, done: int) -> None:
        """Update the progress bar."""
        self._bar.update(self._task, completed=done)

    def numbers(self, done: int, values: Mapping[str, float], *, per_second: float) -> None:
        """Show the metrics of a logged step, except learning rates and gradient norms."""
        shown = {name: value for name, value in values.items() if not name.endswith(("lr", "grad_norm"))}
        self._bar.numbers = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        self._bar.update(self._task, description=f"{per_second:.4g} {self.unit}/s")
        if not self.console.is_terminal:
            left = _clock((time.monotonic() - self._began) / max(1, done - self._start) * (self.steps - done))
            self.say(f"step {done}/{self.steps}  {per_second:.4g} {self.unit}/s  {self._bar.numbers}  {left} left")

    def validation(self, done: int, values: Mapping[str, float]) -> None:
        """Show the metrics of a validation, on a line that stays."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.say(f"validation at step {done}/{self.steps}  {shown}")

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, soft_wrap=True, highlight=False, markup=False, emoji=False)


class _ProgressBar(Progress):
    """One progress bar with a text below it."""

    def __init__(self, console: Console) -> None:
        self.numbers = ""
        super().__init__(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.numbers)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
