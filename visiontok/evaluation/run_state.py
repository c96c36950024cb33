"""The state of an interrupted run, from which the next run of the same evaluation continues. Both harnesses use it."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from visiontok.base.errors import ConfigError
from visiontok.base.files import TEMPORARY, check_regular, clear_stale, remove_folder, replacing
from visiontok.base.json_text import parse_json
from visiontok.data import SkipReport
from visiontok.data.skips import Skip
from visiontok.evaluation.metrics.accumulator import Accumulator, load_states, states_of
from visiontok.evaluation.results.identity import rank_and_world_size
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.result import Result

FOLDER = ".run-state"

_COST = 50
"""Saving takes at most one fiftieth of the time."""

T = TypeVar("T")

ProgressCallback: TypeAlias = Callable[[int, int], None]
"""Called with the samples done and their number."""


def no_progress(done: int, total: int) -> None:
    """For callers that show none."""


class RunState:
    """The state of one run on disk: a file per pass and process, each replaced whole, and the result once there is one.

    Bit for bit: states are taken between batches, and batches are the same in every run.

    Attributes:
        folder: of this run alone.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any], *, every: float = 5.0) -> None:
        """`identity` distinguishes the run from others.

        Args:
            folder: of all resumable runs.
            identity: everything on which its numbers depend, as JSON.
            every: seconds between two states at least.
        """
        self.folder = Path(folder) / hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        self._every, self._last, self._cost = every, time.monotonic(), 0.0

    @property
    def is_due(self) -> bool:
        """Whether enough time has gone by since the last state."""
        return time.monotonic() - self._last >= max(self._every, _COST * self._cost)

    def save(self, name: str, position: int, skips: SkipReport, parts: Mapping[str, Accumulator]) -> None:
        """Replace the state of this process in one pass."""
        start = time.monotonic()
        progress = json.dumps({"position": position, "skips": [(skip.key, skip.reason) for skip in skips.kept]})
        with replacing(self._path(name)) as temporary:
            arrays = {key: np.asarray(array, order="C") for key, array in states_of(parts).items()}
            save_file(arrays, temporary, metadata={"progress": progress, "sha256": _sha256(progress, arrays)})
        self._last = time.monotonic()
        self._cost = self._last - start

    def restore(self, name: str, skips: SkipReport, parts: Mapping[str, Accumulator]) -> int | None:
        """Load the last state of this process in one pass into `skips` and `parts`; its position, or None if there is none, or a damaged one."""
        try:
            with safe_open(check_regular(self._path(name)), framework="numpy") as file:
                written = file.metadata()
                states = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if written["sha256"] != _sha256(written["progress"], states):
                return None
            metadata = parse_json(written["progress"], source=str(self._path(name)))
            known, position = [Skip(str(key), str(reason)) for key, reason in metadata["skips"]], int(metadata["position"])
        except (OSError, SafetensorError, ConfigError, KeyError, TypeError, ValueError):
            return None
        skips.update(known)
        load_states(parts, states)
        return position

    def finished(self) -> tuple[Result, PerSampleResults | None] | None:
        """The result, if an earlier command had finished this run and the first process finds it; all processes then take it."""
        found: list[Any] = [None]
        rank, world_size = rank_and_world_size()
        path = self.folder / "result.json"
        if rank == 0 and path.is_file():
            result = Result.load(path)
            found = [(result, PerSampleResults.load_beside(path, result.per_sample_sha256))]
        if world_size > 1:
            dist.broadcast_object_list(found, src=0)
        return found[0]

    def finish(self, result: Result, per_sample: PerSampleResults) -> None:
        """Keep the result until the whole command is done; the first process does."""
        if rank_and_world_size()[0] == 0:
            per_sample.save_beside(self.folder / "result.json")
            result.save(self.folder / "result.json")

    def remove(self) -> None:
        """Remove the state of the run, whose command is done. If it was the last one, the folder of all is removed too."""
        if self.folder.is_dir():
            with suppress(OSError):  # another process of the same run may be removing it
                remove_folder(self.folder)
        for leftover in self.folder.parent.glob(f"{TEMPORARY}removed-*"):  # of a command that was killed while it removed its state
            shutil.rmtree(leftover, ignore_errors=True)
        with suppress(OSError):  # other runs may have their states there
            self.folder.parent.rmdir()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}-{rank_and_world_size()[0]}.safetensors"


def _sha256(progress: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Of everything in a state."""
    digest = hashlib.sha256(progress.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class RunStates:
    """The states of all runs of one command, in a folder `.run-state` beside its results."""

    def __init__(self, results: Path) -> None:
        """`results` is the folder of the results; what killed commands left half-written there is removed."""
        clear_stale(results)
        self._folder = results / FOLDER
        self._states: list[RunState] = []

    def open(self, identity: Mapping[str, Any]) -> RunState:
        """The state of a run, perhaps one that an earlier command was interrupted in."""
        self._states.append(RunState(self._folder, identity))
        return self._states[-1]

    def clear(self) -> None:
        """Remove everything: the command is done."""
        for state in self._states:
            state.remove()


def resumed(
    read: Callable[[int], Iterable[tuple[int, T]]],
    *,
    name: str,
    start: int,
    parts: Mapping[str, Accumulator],
    skips: SkipReport,
    state: RunState | None,
) -> Iterator[tuple[int, T | None]]:
    """One pass over samples, from where an interrupted run stopped.

    The caller adds every item to `parts` before it requests the next one.

    Args:
        read: position to begin at -> (position after an item, item).
        name: of the pass.
        start: its first position.
        parts: everything that grows with the items.
        skips: what could not be used.
        state: of the run; None to keep nothing.

    Yields:
        Position and item; first the position that the pass begins at, and None.
    """
    restored = state.restore(name, skips, parts) if state is not None else None
    position = start if restored is None else restored
    yield position, None
    for behind, item in read(position):
        yield behind, item
        position = behind
        if state is not None and state.is_due:
            state.save(name, position, skips, parts)
    if state is not None and rank_and_world_size()[1] > 1:
        state.save(name, position, skips, parts)  # another process may still be killed
