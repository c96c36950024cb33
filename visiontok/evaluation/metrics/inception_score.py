"""Inception Score (Salimans et al., 2016): exp of the mean divergence of p(y|x) from p(y).

It depends on the split at fixed predictions, so both published rules are here by name. The logits are those of the Inception network
without the bias of its last layer.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax, xlogy

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.checks import at_least


def inception_score(logits: ArrayLike, *, splits: int = 10, shuffle_seed: int | None = 2020) -> tuple[float, float]:
    """Mean and population standard deviation over equal splits, by default as torch-fidelity does.

    Args:
        logits: (N, classes).
        splits: split i holds rows floor(i N / splits) up to floor((i + 1) N / splits).
        shuffle_seed: rows are first permuted by `RandomState(seed)`; None keeps their order.
    """
    values = _checked(logits)
    if not 1 <= splits <= len(values):
        raise EvaluationError(f"{len(values)} samples cannot be divided into {splits} splits")
    if shuffle_seed is not None:
        values = values[np.random.RandomState(shuffle_seed).permutation(len(values))]
    borders = [i * len(values) // splits for i in range(splits + 1)]
    scores = [_score(values[start:end]) for start, end in pairwise(borders)]
    return float(np.mean(scores)), float(np.std(scores))


def inception_score_of_blocks(logits: ArrayLike, *, block: int = 5000) -> float:
    """Mean over blocks of consecutive rows, a short last block counting like a full one, as the ADM evaluator does.

    Rows must be shuffled over the classes before, or the blocks are not comparable.
    """
    at_least(1, block=block)
    values = _checked(logits)
    return float(np.mean([_score(values[start : start + block]) for start in range(0, len(values), block)]))


def _score(logits: np.ndarray) -> float:
    log_p = log_softmax(logits, axis=1)
    p = np.exp(log_p)
    marginal = p.mean(axis=0)
    return float(np.exp((p * log_p).sum(axis=1).mean() - xlogy(marginal, marginal).sum()))


def _checked(logits: ArrayLike) -> np.ndarray:
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise EvaluationError(f"logits must have shape (N, classes) with N >= 1, got {values.shape}")
    rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(rows):
        raise EvaluationError(f"the logits of sample {rows[0]} are not finite")
    return values
