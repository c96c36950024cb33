"""How fast new codes appear as samples are read (after Chan et al., arXiv 2411.05001)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.checks import at_least
from visiontok.evaluation.metrics.code_sequences import Sequences, flattened


def innovation_curve(indices: Sequences) -> np.ndarray:
    """Distinct codes in the first i samples.

    Args:
        indices: (N, L) int or N rows of different lengths, one per sample, in the order in which they are read.

    Returns:
        (N,) int64, never falling.

    Raises:
        EvaluationError: if there is no sample, or samples hold no codes.
    """
    codes, rows, count = flattened(indices)
    if not len(codes):
        raise EvaluationError(f"codes of at least one sample are required, got {count} samples without any")
    _, first = np.unique(codes, return_index=True)
    return np.cumsum(np.bincount(rows[first], minlength=count))


def samples_to_share(curve: ArrayLike, share: float) -> int:
    """Number of samples after which `share`, above 0 and at most 1, of all codes ever seen had appeared."""
    values = np.asarray(curve)
    if not len(values) or not 0 < share <= 1:
        raise EvaluationError(f"a share in (0, 1] of the codes of at least one sample is required, got {share} of {len(values)} samples")
    return int(np.argmax(values >= share * values[-1])) + 1


def heaps_fit(curve: ArrayLike, *, tokens_per_sample: ArrayLike) -> tuple[float, float]:
    """Least squares of log(distinct codes) on log(codes read): (factor, exponent) of Heaps' law, distinct = factor * read^exponent.

    Args:
        curve: (N,) from `innovation_curve`.
        tokens_per_sample: one number of codes, or (N,) one for each sample.

    Raises:
        EvaluationError: with fewer than two samples, through which there is no line, or a sample without codes.
    """
    distinct = np.asarray(curve, dtype=np.float64)
    at_least(2, samples=len(distinct))
    lengths = np.broadcast_to(np.asarray(tokens_per_sample), distinct.shape)
    at_least(1, tokens_per_sample=int(lengths.min()))
    read = np.cumsum(lengths)
    exponent, intercept = np.polyfit(np.log(read), np.log(distinct), 1)
    return float(np.exp(intercept)), float(exponent)
