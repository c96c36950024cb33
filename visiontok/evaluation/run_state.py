"""What an interrupted measurement had seen, so that the next run of the same measurement goes on from there."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from visiontok.base.files import replacing
from visiontok.data.skips import Skip

_COST = 50
"""Storing may take one fiftieth of the time."""


@dataclass(frozen=True, eq=False)
class Progress:
    """Where one process stands.

    Attributes:
        position: the next place of the data set.
        skips: what could not be used so far.
        states: of every accumulator, by name.
    """

    position: int
    skips: Sequence[Skip]
    states: Mapping[str, np.ndarray]


class Unfinished:
    """The memory of one measurement on disk: a file per process, each replaced whole, so that a killed run leaves a state to go on from.

    Bit for bit: states are taken between batches, and batches are the same in every run.

    Attributes:
        folder: of this measurement alone.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any], *, every: float = 5.0) -> None:
        """A measurement is told from others by `identity`.

        Args:
            folder: of all unfinished measurements.
            identity: everything on which its numbers depend, as JSON.
            every: seconds between two states at least.
        """
        self.folder = Path(folder) / hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        self._every, self._last, self._cost = every, time.monotonic(), 0.0

    def load(self, rank: int) -> Progress | None:
        """The last state of this process; None if there is none."""
        try:
            with safe_open(self._path(rank), framework="numpy") as file:
                told = json.loads(file.metadata()["progress"])
                states = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return None
        return Progress(told["position"], [Skip(*skip) for skip in told["skips"]], states)

    @property
    def is_due(self) -> bool:
        """Whether enough time has gone by since the last state."""
        return time.monotonic() - self._last >= max(self._every, _COST * self._cost)

    def store(self, rank: int, progress: Progress) -> None:
        """Replace the state of this process."""
        start = time.monotonic()
        told = {"position": progress.position, "skips": [(skip.key, skip.reason) for skip in progress.skips]}
        with replacing(self._path(rank)) as temporary:
            arrays = {name: np.asarray(state, order="C") for name, state in progress.states.items()}
            save_file(arrays, temporary, metadata={"progress": json.dumps(told)})
        self._last = time.monotonic()
        self._cost = self._last - start

    def remove(self) -> None:
        """Forget the measurement: it is done. Where it was the last one, the folder of all goes too."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # other measurements may have their states there
            self.folder.parent.rmdir()

    def _path(self, rank: int) -> Path:
        return self.folder / f"process-{rank}.safetensors"


class UnfinishedSides:
    """The memory of a measurement that reads two sides one after the other.

    Attributes:
        generated, reference: of each side.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any]) -> None:
        """See `Unfinished`."""
        self.generated, self.reference = (Unfinished(folder, {"side": side, **identity}) for side in ("generated", "reference"))

    def remove(self) -> None:
        """Forget the measurement: it is done."""
        self.generated.remove()
        self.reference.remove()
