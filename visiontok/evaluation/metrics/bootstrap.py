"""Percentile bootstrap over samples: how much a mean varies if other samples of the same kind are drawn."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from visiontok.base.config import Config
from visiontok.base.errors import EvaluationError

_BLOCK = 2**22


class BootstrapConfig(Config):
    """How intervals are drawn.

    Attributes:
        resamples: number of resampled sets.
        confidence: share of them that the interval contains.
        seed: of the resampling.
    """

    resamples: int = Field(default=1000, ge=100)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    seed: int = 0


class Interval(Config):
    """A confidence interval by bootstrap over samples.

    Attributes:
        low, high: its ends, in the unit of the value.
        samples: number of samples that were resampled.
        bootstrap: how.
    """

    low: float
    high: float
    samples: int
    bootstrap: BootstrapConfig


def bootstrap_mean(values: np.ndarray, config: BootstrapConfig) -> Interval | None:
    """The interval of the mean of `values` (N,); None where there are fewer than two, since one sample has no spread.

    The same values in the same order and the same seed give the same interval on every machine.

    Raises:
        EvaluationError: if a value is not finite.
    """
    if not np.isfinite(values).all():
        raise EvaluationError("an interval needs finite values; drop identical samples, whose PSNR is infinite")
    count = len(values)
    if count < 2:
        return None
    draw = np.random.default_rng(config.seed)
    rows = max(1, _BLOCK // count)
    means = [values[draw.integers(0, count, (min(rows, config.resamples - start), count))].mean(axis=1) for start in range(0, config.resamples, rows)]
    tail = (1 - config.confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(low=float(low), high=float(high), samples=count, bootstrap=config)
