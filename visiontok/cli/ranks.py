"""Commands that torchrun may start several times, and the progress that the first process shows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

_EVERY = 30.0
"""Seconds between two lines of progress without a terminal."""


@contextmanager
def processes() -> Iterator[bool]:
    """Join the process group of torchrun, if there is one; yields whether this is rank 0."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("gloo")  # it carries statistics only, whatever the device of the models
    with leaving_process_group():
        yield dist.get_rank() == 0


@contextmanager
def leaving_process_group() -> Iterator[None]:
    """Destroy the process group, if there is one then, at the end.

    Before torch 2.8, destroying a gloo group holds the interpreter's lock, and never ends if a thread of the group needs that to free a tensor. While
    the processes wait for one another, nobody holds it, and such threads come to their end.
    """
    import torch.distributed as dist

    def has_group() -> bool:
        return dist.is_available() and dist.is_initialized()

    try:
        yield
        if has_group():
            dist.barrier()
    finally:
        if has_group():
            dist.destroy_process_group()


@contextmanager
def progress_bar(name: str, *, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr if it is a terminal, else a line every 30 seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(name) if shown else lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not shown) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(name: str) -> Callable[[int, int], None]:
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            typer.echo(f"{name}: {done} of {total} samples", err=True)

    return tell
