"""Confidence intervals of Fréchet distances by a bootstrap over samples, where it is affordable and meaningful.

The distance of N samples is biased upwards, and that of resampled samples is so once more. The resampled distances are therefore centered on the
distance itself: the interval is about the distance at this N, by which two models on equally many samples are compared.
"""

from __future__ import annotations

import numpy as np

from visiontok.evaluation.features.statistics import Statistics
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, Interval
from visiontok.evaluation.metrics.frechet import frechet_distance

RESAMPLES = 200
"""The most resamples; each costs as much as the distance itself."""

_WORK = 2e11
"""Floating-point operations that an interval may cost, some seconds on one core."""


def why_no_interval(count: int | None, dimensions: int) -> str:
    """Why a distance of N = `count` samples and D features gets no interval; empty where it gets one.

    Needs no samples, so that features are kept only where they will be used.
    """
    if count is None:
        return "the number of samples was not known beforehand, so their features were not kept"
    if count < 2 * dimensions:
        return f"{count} samples are fewer than twice the {dimensions} features: resampled covariances would be singular"
    if RESAMPLES * (4.0 * count * dimensions**2 + 100.0 * dimensions**3) > _WORK:
        return f"resampling {count} samples of {dimensions} features takes too long"
    return ""


def resampled_distances(features: np.ndarray, reference: np.ndarray | Statistics, *, paired: bool, bootstrap: BootstrapConfig) -> np.ndarray:
    """Distances of resampled samples (R,), R = min(resamples, `RESAMPLES`).

    Equal seeds and counts draw equal samples, so that the distances of two models on the same samples can be subtracted one by one.

    Args:
        features: (N, D).
        reference: features (M, D), or statistics, which stay as they are.
        paired: whether row i of both sides is the same sample, before and after.
        bootstrap: seed and number.
    """
    draw = np.random.default_rng([bootstrap.seed, 0])
    draw_reference = np.random.default_rng([bootstrap.seed, 1])
    center = features.mean(axis=0, dtype=np.float64)
    first = features - center
    second = reference - center if isinstance(reference, np.ndarray) else None
    fixed = None if isinstance(reference, np.ndarray) else (reference.mean - center, reference.covariance)
    distances = []
    for _ in range(min(bootstrap.resamples, RESAMPLES)):
        times = _times_drawn(len(first), draw)
        side = _moments(first, times)
        if second is not None:
            other = _moments(second, times if paired else _times_drawn(len(second), draw_reference))
        else:
            assert fixed is not None
            other = fixed
        distances.append(frechet_distance(*side, *other))
    return np.asarray(distances)


def centered_interval(value: float, resampled: np.ndarray, *, samples: int, bootstrap: BootstrapConfig) -> Interval:
    """The interval around `value`, as wide as resampled values spread around their own mean."""
    tail = (1 - bootstrap.confidence) / 2
    low, high = np.quantile(resampled - resampled.mean(), [tail, 1 - tail])
    drawn = bootstrap.replace(resamples=len(resampled))
    return Interval(low=value + float(low), high=value + float(high), samples=samples, bootstrap=drawn)


def _times_drawn(count: int, draw: np.random.Generator) -> np.ndarray:
    return np.bincount(draw.integers(0, count, count), minlength=count).astype(np.float64)


def _moments(features: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased covariance of features (N, D) that each occur so many times (N,).

    Around their own mean: where few rows differ, a resample may hold equal rows only, and differences of squares would be noise.
    """
    mean = times @ features / len(features)
    centered = (features - mean) * np.sqrt(times)[:, None]
    return mean, centered.T @ centered / (len(features) - 1)
