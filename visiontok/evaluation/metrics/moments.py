"""Mean and covariance of a stream of features, in O(D^2) memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.features.statistics import Statistics
from visiontok.evaluation.metrics.accumulator import Accumulator, State

_GATHER = 512


class Moments(Accumulator):
    """Streaming mean and covariance in float64.

    Keeps the mean and the scatter around it instead of plain sums (Chan, Golub and LeVeque, 1979), so that features far from zero
    lose no digits. D is that of the first batch. Small batches are collected first, since each merge costs D^2.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = np.zeros(0)
        self._scatter = np.zeros((0, 0))
        self._gathered: list[np.ndarray] = []

    def update(self, features: Tensor | ArrayLike) -> None:
        """Add features (B, D).

        Raises:
            EvaluationError: if they are not a matrix of finite numbers, or D changes.
        """
        batch = np.asarray(features.detach().cpu().double() if isinstance(features, Tensor) else features, dtype=np.float64)
        if batch.ndim != 2:
            raise EvaluationError(f"features must have shape (B, D), got {batch.shape}")
        if not np.isfinite(batch).all():
            first = self._count + self._waiting + int(np.argwhere(~np.isfinite(batch))[0, 0])
            raise EvaluationError(f"features of sample {first} are not finite")
        if not len(batch):
            return
        width = len(self._mean) or (self._gathered or [batch])[0].shape[1]
        if batch.shape[1] != width:
            raise EvaluationError(f"features are {batch.shape[1]} wide, earlier ones were {width} wide")
        self._gathered.append(batch.copy())  # the caller may use its array again
        if self._waiting >= _GATHER:
            self._join_gathered()

    def merge(self, other: Moments) -> None:
        self._join_gathered()
        other._join_gathered()
        if other._count:
            self._join(other._count, other._mean, other._scatter)

    def state(self) -> State:
        gathered = np.concatenate(self._gathered) if self._gathered else np.zeros((0, len(self._mean)))
        return {"count": np.asarray(self._count), "mean": self._mean.copy(), "scatter": self._scatter.copy(), "gathered": gathered}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._count, self._mean, self._scatter = int(state["count"]), state["mean"].copy(), state["scatter"].copy()
        self._gathered = [state["gathered"].copy()] if len(state["gathered"]) else []

    def compute(self) -> Statistics:
        """Mean and unbiased covariance.

        Raises:
            EvaluationError: with fewer than two samples.
        """
        self._join_gathered()
        if self._count < 2:
            raise EvaluationError(f"a covariance needs at least 2 samples, got {self._count}")
        return Statistics(self._mean.copy(), self._scatter / (self._count - 1), self._count)

    @property
    def _waiting(self) -> int:
        return sum(map(len, self._gathered))

    def _join_gathered(self) -> None:
        if self._gathered:
            batch = np.concatenate(self._gathered)
            self._gathered = []
            mean = batch.mean(axis=0)
            centered = batch - mean
            self._join(len(batch), mean, centered.T @ centered)

    def _join(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        if not self._count:
            self._count, self._mean, self._scatter = count, mean.copy(), scatter.copy()
            return
        if mean.shape != self._mean.shape:
            raise EvaluationError(f"features are {len(mean)} wide, earlier ones were {len(self._mean)} wide")
        total = self._count + count
        gap = mean - self._mean
        self._scatter += scatter + np.outer(gap, gap) * (self._count * count / total)
        self._mean += gap * (count / total)
        self._count = total
