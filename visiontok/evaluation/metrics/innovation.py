"""How fast new codes appear as samples are read (after Chan et al., arXiv 2411.05001)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def innovation_curve(indices: ArrayLike) -> np.ndarray:
    """Distinct codes in the first i samples.

    Args:
        indices: (N, L) int, one row per sample, in the order in which they are read.

    Returns:
        (N,) int64, never falling.
    """
    codes = np.asarray(indices, dtype=np.int64)
    _, first = np.unique(codes, return_index=True)
    return np.cumsum(np.bincount(first // codes.shape[1], minlength=len(codes)))


def samples_to_share(curve: ArrayLike, share: float) -> int:
    """Number of samples after which `share` of all codes ever seen had appeared."""
    values = np.asarray(curve)
    return int(np.argmax(values >= share * values[-1])) + 1


def heaps_fit(curve: ArrayLike, *, tokens_per_sample: int) -> tuple[float, float]:
    """Least squares of log(distinct codes) on log(codes read): (factor, exponent) of Heaps' law, distinct = factor * read^exponent."""
    distinct = np.asarray(curve, dtype=np.float64)
    read = tokens_per_sample * np.arange(1, len(distinct) + 1)
    exponent, intercept = np.polyfit(np.log(read), np.log(distinct), 1)
    return float(np.exp(intercept)), float(exponent)
