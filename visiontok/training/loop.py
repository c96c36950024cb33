"""The training loop: step, log, show, save, stop."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from visiontok.base.errors import TrainingError
from visiontok.signals.image_writing import save_image
from visiontok.training.checkpoint import checkpoint_folder, save_checkpoint
from visiontok.training.interrupts import StopRequest
from visiontok.training.logging import ImageWriter, MetricsWriter
from visiontok.training.progress import ProgressDisplay
from visiontok.training.randomness import seed_step
from visiontok.training.recipe import Recipe
from visiontok.training.run_folder import RunFolder
from visiontok.training.step_clock import StepClock, bottleneck, loader_in_words
from visiontok.training.task import Task
from visiontok.training.updater import NonFiniteTermError
from visiontok.training.usage_curve import draw_usage
from visiontok.training.validation import Validation


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        folder: the run's folder.
        step: finished steps.
        checkpoint: the newest checkpoint.
        final: folder of the exported model; None if the run was interrupted.
        signal: number of the signal that interrupted it.
        validation: of the last step; None if the run was interrupted, had no step left to take, or has no validation.
    """

    folder: Path
    step: int
    checkpoint: Path | None
    final: Path | None = None
    signal: int | None = None
    validation: Validation | None = None


def run_steps(
    task: Task[Any],
    recipe: Recipe,
    folder: RunFolder,
    *,
    start: int,
    checkpoint: Path | None,
    accelerator: Accelerator,
    writers: list[MetricsWriter],
    display: ProgressDisplay,
    stop: StopRequest,
) -> TrainingResult:
    """Take the steps from `start` (finished so far, with the `checkpoint` that holds them) to the recipe's end, or to a stop request.

    Raises:
        TrainingError: if a loss term becomes NaN or infinite; the weights and checkpoints of the steps before are untouched.
    """
    meter, clock, validation = _Meter(), StepClock(), None
    batches, limit = task.batches(start), ""
    for step in range(start, recipe.steps):
        batch = clock.next(batches)
        seed_step(recipe.seed, step, accelerator.process_index)
        try:
            meter.add(task.step(batch, step), samples=task.batch_size)
        except NonFiniteTermError as error:
            raise TrainingError(_advice(error, step, checkpoint)) from error
        clock.done()
        if step == start:
            clock.reset()  # of the first batch's time, most is the start of the workers
        done = step + 1
        display.step(done)
        interrupted = _agree(stop.signal, accelerator)

        logged: dict[str, float] = {}
        if done % recipe.logging.every == 0 or done == recipe.steps:
            watched, warnings = task.watch(step)
            per_second, means = meter.flush()
            share = _largest(clock.loader_share, accelerator)
            clock.reset()
            if share is not None:
                watched = {**watched, "loader_share": share}
                if bottleneck(share) != limit:
                    limit = bottleneck(share)
                    display.say(f"step {done}: the loader takes {loader_in_words(share)}")
            display.numbers(done, {**means, **watched}, per_second=per_second)
            for warning in warnings:
                display.say(f"warning: step {done}: {warning}")
            logged = {**means, **watched, f"{task.unit}_per_second": per_second}
        if recipe.validates(done):
            with meter.paused():
                validation = task.validate(done)
            if validation is not None:
                display.validation(done, validation.numbers)
                logged |= {f"validation/{name}": value for name, value in validation.numbers.items()}
        if logged:
            for writer in writers:
                writer.write(done, logged)

        if recipe.sample_images.due(done, recipe.steps):
            image = task.sample_image()
            if accelerator.is_main_process and image is not None:
                save_image(image, folder.samples / f"step-{done:08d}.png")
                for writer in writers:
                    if isinstance(writer, ImageWriter):
                        writer.show(done, image)
            if accelerator.is_main_process:
                draw_usage(folder.metrics, folder.usage)

        if done % recipe.checkpoints.every == 0 or done == recipe.steps or interrupted is not None:
            state = task.state() | _scaler_state(accelerator)
            if accelerator.is_main_process:
                save_checkpoint(folder.checkpoints, step=done, state=state, recipe=recipe.to_dict(), keep_last=recipe.checkpoints.keep_last)
            checkpoint = checkpoint_folder(folder.checkpoints, done)
        if interrupted is not None:
            return TrainingResult(folder=folder.root, step=done, checkpoint=checkpoint, signal=interrupted)
    return TrainingResult(folder=folder.root, step=recipe.steps, checkpoint=checkpoint, validation=validation)


def load_scaler(state: Mapping[str, Any], accelerator: Accelerator) -> None:
    """Give the gradient scaler of an fp16 run its scale back."""
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state["scaler"])


def _scaler_state(accelerator: Accelerator) -> dict[str, Any]:
    return {} if accelerator.scaler is None else {"scaler": accelerator.scaler.state_dict()}


def _agree(signal: int | None, accelerator: Accelerator) -> int | None:
    """The signal that any process received, so that all stop after the same step."""
    if accelerator.num_processes == 1:
        return signal
    received = accelerator.gather(torch.tensor([signal or 0], device=accelerator.device)).max()
    return int(received) or None


def _largest(share: float | None, accelerator: Accelerator) -> float | None:
    """Of all processes: the others wait for the one that waits longest for its batches."""
    if share is None or accelerator.num_processes == 1:
        return share
    return float(accelerator.gather(torch.tensor([share], device=accelerator.device)).max())


def _advice(error: NonFiniteTermError, step: int, checkpoint: Path | None) -> str:
    saved = f"the last good checkpoint is {checkpoint}" if checkpoint is not None else "no checkpoint was written yet"
    return (
        f"step {step + 1}: {error}. Nothing was updated with it; {saved}. "
        "Lower optimizer.lr, lengthen schedule.warmup, or clip harder (optimizer.clip), in a new output folder."
    )


class _Meter:
    """Means and throughput since the last logged step."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._samples, self._began = 0, time.perf_counter()

    def add(self, values: Mapping[str, float], *, samples: int) -> None:
        for name, value in values.items():
            self._sums[name] += value
            self._counts[name] += 1
        self._samples += samples

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that does not count as training."""
        before = time.perf_counter()
        yield
        self._began += time.perf_counter() - before

    def flush(self) -> tuple[float, dict[str, float]]:
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        per_second = self._samples / max(1e-9, time.perf_counter() - self._began)
        self._reset()
        return per_second, means
