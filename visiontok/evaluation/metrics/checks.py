"""Checks of what functions of statistics are given: legal numbers of samples and settings, finite values."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from visiontok.base.errors import EvaluationError


def feature_pair(features1: ArrayLike, features2: ArrayLike, *, fewest: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) and (M, D) of two sets, as float64.

    Args:
        features1, features2: of the two sets.
        fewest: rows that each set must have.

    Raises:
        EvaluationError: for other shapes, fewer rows, or a number that is not finite.
    """
    first, second = (np.asarray(features, dtype=np.float64) for features in (features1, features2))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1:] != second.shape[1:] or not first.size or min(len(first), len(second)) < fewest:
        raise EvaluationError(f"expected features (N, D) and (M, D) with at least {fewest} rows each, got {first.shape} and {second.shape}")
    for side, values in (("first", first), ("second", second)):
        rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(rows):
            raise EvaluationError(f"features of sample {rows[0]} of the {side} set are not finite")
    return first, second


def at_least(least: float, **settings: float) -> None:
    """Raise an EvaluationError if a setting is below `least`, naming it."""
    for name, value in settings.items():
        if not value >= least:
            raise EvaluationError(f"{name} must be at least {least:g}, got {value}")
