"""Statistics of the features of one side: reconstructions, generated samples, or their reference."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from visiontok.evaluation.features.statistics import Statistics
from visiontok.evaluation.metrics.accumulator import Accumulator
from visiontok.evaluation.metrics.moments import Moments
from visiontok.evaluation.metrics.per_sample import PerSample


class FeatureSide:
    """Streamed moments, and the features of every sample where a metric needs them; 4 D bytes each, in float32.

    Attributes:
        moments: mean and covariance so far.
        table: the features, one row per sample; None where they are not kept.
    """

    def __init__(self, *, keeps_features: bool) -> None:
        self.moments = Moments()
        self.table = PerSample() if keeps_features else None

    @property
    def accumulators(self) -> dict[str, Accumulator]:
        """By name."""
        return {"moments": self.moments, **({"features": self.table} if self.table is not None else {})}

    def update(self, indices: Tensor, features: Tensor) -> None:
        """Add features (B, D) of the samples with these indices."""
        self.moments.update(features)
        if self.table is not None:
            self.table.update(indices, {"features": features.float()})

    def statistics(self) -> Statistics:
        """Mean and unbiased covariance."""
        return self.moments.compute()

    def features(self) -> np.ndarray:
        """(N, D) float32 by rising sample index."""
        assert self.table is not None
        return self.table.compute()["features"]
