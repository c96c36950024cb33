"""Statistics of the features of one side: reconstructions, generated samples, or their reference."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visiontok.evaluation.features.statistics import Statistics
from visiontok.evaluation.metrics.accumulator import Accumulator
from visiontok.evaluation.metrics.moments import Moments
from visiontok.evaluation.metrics.per_sample import PerSample

_MOST_ROWS = 2**24
"""Of a sample."""


class FeatureRows(NamedTuple):
    """Features of a batch, by rising position in it.

    Attributes:
        indices: (N,) of the samples that they are of; several rows may be of one.
        features: (N, D).
    """

    indices: Tensor
    features: Tensor


class FeatureSide:
    """Streamed moments, and all features where a metric needs them; 4 D bytes a row, in float32.

    Attributes:
        moments: mean and covariance so far.
        table: the features, row by row; None where they are not kept.
    """

    def __init__(self, *, keeps_features: bool) -> None:
        self.moments = Moments()
        self.table = PerSample() if keeps_features else None

    @property
    def accumulators(self) -> dict[str, Accumulator]:
        """By name."""
        return {"moments": self.moments, **({"features": self.table} if self.table is not None else {})}

    def update(self, rows: FeatureRows) -> None:
        """Add all features of some samples."""
        self.moments.update(rows.features)
        if self.table is not None:
            self.table.update(_row_numbers(rows.indices), {"features": rows.features.float()})

    def statistics(self) -> Statistics:
        """Mean and unbiased covariance."""
        return self.moments.compute()

    def features(self) -> np.ndarray:
        """(N, D) float32 by rising sample index, those of a sample in their order."""
        assert self.table is not None
        return self.table.compute()["features"]


def _row_numbers(indices: Tensor) -> Tensor:
    """(N,) sample indices, equal ones side by side -> (N,) numbers that rise with the index and differ between the rows of a sample."""
    _, counts = torch.unique_consecutive(indices, return_counts=True)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    return indices * _MOST_ROWS + torch.arange(len(indices), dtype=torch.int64) - starts
