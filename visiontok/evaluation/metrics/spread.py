"""How much samples differ from each other: the variance of every feature, streamed in O(D) memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from visiontok.evaluation.metrics.accumulator import Accumulator, State


class Spread(Accumulator):
    """Streaming variance of features (B, D) around their mean, in float64 (Chan, Golub and LeVeque, 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean, self._scatter = np.zeros(0), np.zeros(0)

    def update(self, features: Tensor | ArrayLike) -> None:
        """Add features (B, D)."""
        values = np.asarray(features.detach().cpu().double() if isinstance(features, Tensor) else features, dtype=np.float64)
        if len(values):
            mean = values.mean(axis=0)
            self._join(len(values), mean, np.square(values - mean).sum(axis=0))

    def merge(self, other: Spread) -> None:
        if other.count:
            self._join(other.count, other._mean, other._scatter)

    def state(self) -> State:
        return {"count": np.asarray(self.count), "mean": self._mean.copy(), "scatter": self._scatter.copy()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.count, self._mean, self._scatter = int(state["count"]), state["mean"].copy(), state["scatter"].copy()

    def compute(self) -> float:
        """The mean of the features' unbiased variances; 0 for fewer than two samples."""
        return float(self._scatter.mean() / (self.count - 1)) if self.count > 1 else 0.0

    def _join(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        if not self.count:
            self.count, self._mean, self._scatter = count, mean.copy(), scatter.copy()
            return
        total, gap = self.count + count, mean - self._mean
        self._scatter = self._scatter + scatter + np.square(gap) * (self.count * count / total)
        self._mean = self._mean + gap * (count / total)
        self.count = total
