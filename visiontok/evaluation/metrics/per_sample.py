"""Values that belong to single images, kept with the image's number so that any sharding gives the same table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.accumulator import Accumulator, State


class PerImage(Accumulator):
    """A table with one row per image: a few numbers each, so that intervals and worst cases can be found afterwards.

    Rows carry the number of the image in its data set. An image that was counted twice, as a sampler that pads the last batch of a
    shard would do, is an error and not a silent bias.
    """

    def __init__(self) -> None:
        self._numbers: list[np.ndarray] = []
        self._columns: dict[str, list[np.ndarray]] = {}

    def update(self, numbers: Tensor | ArrayLike, **columns: Tensor | ArrayLike) -> None:
        """Add rows.

        Args:
            numbers: (B,) the images' places in the data set.
            columns: (B, ...) each, the same names in every call.

        Raises:
            EvaluationError: if a column has another number of rows, or the names differ from those before.
        """
        arrays = {name: _array(values) for name, values in columns.items()}
        places = _array(numbers).astype(np.int64)
        for name, values in arrays.items():
            if len(values) != len(places):
                raise EvaluationError(f"{len(values)} values of {name!r} were given for {len(places)} images")
        self._add(places, arrays)

    def __len__(self) -> int:
        """Rows so far."""
        return sum(map(len, self._numbers))

    def merge(self, other: PerImage) -> None:
        if other._numbers:
            numbers, columns = other._joined()
            self._add(numbers, columns)

    def state(self) -> State:
        if not self._numbers:
            return {}
        numbers, columns = self._joined()
        return {"numbers": numbers, **{f"columns.{name}": values for name, values in columns.items()}}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._numbers, self._columns = [], {}
        if state:
            self._add(state["numbers"], {name.removeprefix("columns."): values for name, values in state.items() if name != "numbers"})

    def compute(self) -> dict[str, np.ndarray]:
        """The columns in the order of the images' numbers, with "numbers" (N,) itself.

        Raises:
            EvaluationError: if nothing was seen, or an image twice.
        """
        if not self._numbers:
            raise EvaluationError("no image was measured: the data set is empty, or every file of it was skipped")
        numbers, columns = self._joined()
        order = np.argsort(numbers, kind="stable")
        numbers = numbers[order]
        twice = numbers[1:][numbers[1:] == numbers[:-1]]
        if len(twice):
            raise EvaluationError(f"{len(twice)} images were measured more than once, the first is number {twice[0]}: shards overlap or were padded")
        return {"numbers": numbers, **{name: values[order] for name, values in columns.items()}}

    def _add(self, numbers: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        if self._numbers and set(columns) != set(self._columns):
            raise EvaluationError(f"columns {sorted(columns)} were given after {sorted(self._columns)}")
        self._numbers.append(numbers)
        for name, values in columns.items():
            self._columns.setdefault(name, []).append(values)

    def _joined(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return np.concatenate(self._numbers), {name: np.concatenate(parts) for name, parts in self._columns.items()}


def _array(values: Tensor | ArrayLike) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
