"""Errors of single metrics, which end neither a run nor the other metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from visiontok.base.errors import VisiontokError
from visiontok.evaluation.metrics.accumulator import Accumulator, State


class Failures(Accumulator):
    """What failed, with the first error of each. A run that is resumed, or divided among processes, knows it too: numbers over the remaining
    samples would look like those over all."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    @contextmanager
    def kept_of(self, name: str) -> Iterator[None]:
        """Keep an error of what is done inside, whatever it is: hours of other results would be lost with it."""
        try:
            yield
        except Exception as error:
            self._reasons.setdefault(name, str(error) if isinstance(error, VisiontokError) else f"{type(error).__name__}: {error}")

    def __contains__(self, name: str) -> bool:
        return name in self._reasons

    def merge(self, other: Failures) -> None:
        self._reasons = {**other._reasons, **self._reasons}

    def state(self) -> State:
        return {name: np.frombuffer(reason.encode(errors="backslashreplace"), dtype=np.uint8) for name, reason in self._reasons.items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._reasons = {name: reason.tobytes().decode() for name, reason in state.items()}

    def compute(self) -> dict[str, str]:
        """Name -> error."""
        return dict(self._reasons)
