"""What a command has measured so far, kept on disk until the command is done: a killed one goes on where it was."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch.distributed as dist

from visiontok.evaluation.reconstruction.run import Measurement, Report
from visiontok.evaluation.results.identity import processes
from visiontok.evaluation.results.per_sample import Evidence
from visiontok.evaluation.results.result import Result
from visiontok.evaluation.run_state import Unfinished


class KeptMeasurements:
    """Takes measurements that an earlier command of the same suite, weights, data, versions and hardware had finished from a folder `.unfinished`,
    and goes on with the one that it was killed in. Under torch.distributed all processes call this, and the first one writes results.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` is that of the results."""
        self._folder = folder / ".unfinished"
        self._states: list[Unfinished] = []

    def measure(self, measurement: Measurement, progress: AbstractContextManager[Report]) -> tuple[Result, Evidence]:
        """Run a measurement, or the rest of it.

        Args:
            measurement: what is measured.
            progress: a context around it, whose value is called with the pictures done and their total.

        Raises:
            EvaluationError, DataError: see `Measurement.run`.
        """
        state = Unfinished(self._folder, measurement.identity)
        self._states.append(state)
        path = state.folder / "result.json"
        kept = _agreed(path)
        if kept is not None:
            return kept
        with progress as step:
            result, evidence = measurement.run(progress=step, unfinished=state)
        if processes()[0] == 0:
            evidence.save_beside(path)
            result.save(path)
        return result, evidence

    def forget(self) -> None:
        """Remove everything: the command is done."""
        for state in self._states:
            state.remove()


def _agreed(path: Path) -> tuple[Result, Evidence] | None:
    """What an earlier command had finished, if the first process finds it; all processes then take it."""
    found: list[Any] = [None]
    if processes()[0] == 0 and path.is_file():
        result = Result.load(path)
        found = [(result, Evidence.load_beside(path, result.evidence_sha256))]
    if processes()[1] > 1:
        dist.broadcast_object_list(found, src=0)
    return found[0]
