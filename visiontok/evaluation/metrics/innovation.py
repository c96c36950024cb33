"""How fast new codes appear as samples are read (after Chan et al., arXiv 2411.05001)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.checks import at_least


def innovation_curve(indices: ArrayLike) -> np.ndarray:
    """Distinct codes in the first i samples.

    Args:
        indices: (N, L) int, one row per sample, in the order in which they are read.

    Returns:
        (N,) int64, never falling.

    Raises:
        EvaluationError: if there is no sample, or samples hold no codes.
    """
    codes = np.asarray(indices, dtype=np.int64)
    if codes.ndim != 2 or not codes.size:
        raise EvaluationError(f"codes must have shape (N, L) with at least one sample and one code, got {codes.shape}")
    _, first = np.unique(codes, return_index=True)
    return np.cumsum(np.bincount(first // codes.shape[1], minlength=len(codes)))


def samples_to_share(curve: ArrayLike, share: float) -> int:
    """Number of samples after which `share`, above 0 and at most 1, of all codes ever seen had appeared."""
    values = np.asarray(curve)
    if not len(values) or not 0 < share <= 1:
        raise EvaluationError(f"a share in (0, 1] of the codes of at least one sample is needed, got {share} of {len(values)} samples")
    return int(np.argmax(values >= share * values[-1])) + 1


def heaps_fit(curve: ArrayLike, *, tokens_per_sample: int) -> tuple[float, float]:
    """Least squares of log(distinct codes) on log(codes read): (factor, exponent) of Heaps' law, distinct = factor * read^exponent.

    Raises:
        EvaluationError: with fewer than two samples, through which there is no line.
    """
    distinct = np.asarray(curve, dtype=np.float64)
    at_least(2, samples=len(distinct))
    at_least(1, tokens_per_sample=tokens_per_sample)
    read = tokens_per_sample * np.arange(1, len(distinct) + 1)
    exponent, intercept = np.polyfit(np.log(read), np.log(distinct), 1)
    return float(np.exp(intercept)), float(exponent)
