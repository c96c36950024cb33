"""Columns with one row per sample, kept with the sample's index so that any sharding gives the same table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.accumulator import Accumulator, State


class PerSample(Accumulator):
    """A table with one row per sample: a few numbers each, so that intervals and worst cases can be found afterwards.

    Rows carry the index of the sample in its data set. A sample that was counted twice, as a sampler that pads the last batch of a
    shard would do, is an error and not a silent bias.
    """

    def __init__(self) -> None:
        self._indices: list[np.ndarray] = []
        self._columns: dict[str, list[np.ndarray]] = {}

    def update(self, indices: Tensor | ArrayLike, columns: Mapping[str, Tensor | ArrayLike]) -> None:
        """Add rows.

        Args:
            indices: (B,) of the samples in the data set.
            columns: (B, ...) each, the same names in every call.

        Raises:
            EvaluationError: if a column has another number of rows, or the names differ from those before.
        """
        arrays = {name: _array(values) for name, values in columns.items()}
        rows = _array(indices).astype(np.int64)
        for name, values in arrays.items():
            if len(values) != len(rows):
                raise EvaluationError(f"{len(values)} values of {name!r} were given for {len(rows)} samples")
        self._add(rows, arrays)

    def __len__(self) -> int:
        """Rows so far."""
        return sum(map(len, self._indices))

    def merge(self, other: PerSample) -> None:
        if other._indices:
            self._add(*other._joined())

    def state(self) -> State:
        if not self._indices:
            return {}
        indices, columns = self._joined()
        return {"indices": indices, **{f"columns.{name}": values for name, values in columns.items()}}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._indices, self._columns = [], {}
        if state:
            self._add(state["indices"], {name.removeprefix("columns."): values for name, values in state.items() if name != "indices"})

    def compute(self) -> dict[str, np.ndarray]:
        """The columns by rising sample index, with "indices" (N,) itself.

        Raises:
            EvaluationError: if nothing was seen, or a sample twice.
        """
        if not self._indices:
            raise EvaluationError("no sample was evaluated: the data set is empty, or every file of it was skipped")
        indices, columns = self._joined()
        order = rising_once(indices)
        return {"indices": indices[order], **{name: values[order] for name, values in columns.items()}}

    def _add(self, indices: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        if self._indices and set(columns) != set(self._columns):
            raise EvaluationError(f"columns {sorted(columns)} were given after {sorted(self._columns)}")
        self._indices.append(indices)
        for name, values in columns.items():
            self._columns.setdefault(name, []).append(values)

    def _joined(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return np.concatenate(self._indices), {name: np.concatenate(parts) for name, parts in self._columns.items()}


def rising_once(indices: np.ndarray) -> np.ndarray:
    """(N,) int64: the order in which sample indices (N,) rise.

    Raises:
        EvaluationError: if one occurs twice.
    """
    order = np.argsort(indices, kind="stable")
    rising = indices[order]
    twice = rising[1:][rising[1:] == rising[:-1]]
    if len(twice):
        raise EvaluationError(f"{len(twice)} samples were evaluated more than once, the first is index {twice[0]}: shards overlap or were padded")
    return order


def _array(values: Tensor | ArrayLike) -> np.ndarray:
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    on_cpu = values.detach().cpu()
    return (on_cpu.float() if on_cpu.is_floating_point() and on_cpu.dtype not in (torch.float32, torch.float64) else on_cpu).numpy()
