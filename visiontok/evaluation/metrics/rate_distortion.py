"""Quality against rate for tokenizers of flexible length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.checks import at_least


def area_under_curve(tokens: ArrayLike, quality: ArrayLike) -> float:
    """Mean quality over log2(tokens), by trapezoids: the area divided by the range.

    Raises:
        EvaluationError: with fewer than two points, rates that do not rise from above 0, or values that are not finite.
    """
    counts, values = _curve(tokens, quality)
    if len(counts) < 2 or not (np.diff(counts) > 0).all() or not counts[0] > 0:
        raise EvaluationError(f"token counts must rise from above 0 and be at least two, got {counts.tolist()}")
    rate = np.log2(counts)
    widths = np.diff(rate)
    return float((widths * (values[1:] + values[:-1]) / 2).sum() / (rate[-1] - rate[0]))


def bd_rate(anchor_rate: ArrayLike, anchor_quality: ArrayLike, test_rate: ArrayLike, test_quality: ArrayLike) -> float:
    """Bjøntegaard delta rate: how many percent more rate the test needs for the same quality, on average over the common qualities.

    log10(rate) is interpolated over quality by monotone cubics (pchip) and integrated exactly. Negative is better for the test.

    Raises:
        EvaluationError: with fewer than four points, values that do not rise, or no common range.
    """
    first, second = _points(anchor_quality, _log10(anchor_rate)), _points(test_quality, _log10(test_rate))
    return float((10 ** _mean_gap(first, second) - 1) * 100)


def bd_quality(anchor_rate: ArrayLike, anchor_quality: ArrayLike, test_rate: ArrayLike, test_quality: ArrayLike) -> float:
    """Bjøntegaard delta quality (BD-PSNR for dB): how much better the test is at the same rate, on average over the common rates."""
    first, second = _points(_log10(anchor_rate), anchor_quality), _points(_log10(test_rate), test_quality)
    return _mean_gap(first, second)


def lower_hull(rate: ArrayLike, error: ArrayLike) -> np.ndarray:
    """The lower convex hull of (rate, error), at the given rates: what mixing operating points could reach.

    Raises:
        EvaluationError: if there is no point, or a value is not finite.
    """
    x, y = _curve(rate, error)
    order = np.lexsort((y, x))
    lowest = order[np.diff(x[order], prepend=-np.inf) > 0]  # of points of one rate
    corners: list[int] = []
    for point in lowest:
        while len(corners) > 1 and _turns_right(x, y, corners[-2], corners[-1], point):
            corners.pop()
        corners.append(int(point))
    return np.interp(x, x[corners], y[corners])


@dataclass(frozen=True, eq=False)
class TokenComplexity:
    """Tokens required to reach a quality, an estimate of the complexity of a sample.

    Attributes:
        tokens: (N,) int64, the smallest count that reaches it, -1 where none does.
        reached: share of samples that reach it.
        mean_over_reached: mean count of those; None if there is none.
        mean_capped: mean count if the others are given the largest count.
    """

    tokens: np.ndarray
    reached: float
    mean_over_reached: float | None
    mean_capped: float


def token_complexity(tokens: ArrayLike, errors: ArrayLike, *, threshold: float) -> TokenComplexity:
    """Smallest number of tokens with error <= threshold.

    Args:
        tokens: (K,) rising token counts.
        errors: (N, K), the error of each sample at each count.
        threshold: in the unit of the errors.

    Raises:
        EvaluationError: if there is no sample, or no count.
    """
    counts, values = np.asarray(tokens, dtype=np.int64), np.asarray(errors, dtype=np.float64)
    if values.ndim != 2 or not values.size or values.shape[1:] != counts.shape:
        raise EvaluationError(f"expected errors (N, K) at K counts, N and K at least 1, got {values.shape} at {counts.shape}")
    fits = values <= threshold
    reached = fits.any(axis=1)
    smallest = np.where(reached, counts[fits.argmax(axis=1)], -1)
    mean = float(smallest[reached].mean()) if reached.any() else None
    return TokenComplexity(smallest, float(reached.mean()), mean, float(np.where(reached, smallest, counts[-1]).mean()))


@dataclass(frozen=True)
class TokenUse:
    """How many tokens an adaptive tokenizer spends on its samples."""

    mean: float
    lowest: float
    quartiles: tuple[float, float, float]
    highest: float


def token_use(tokens: ArrayLike) -> TokenUse:
    """Mean, range and quartiles of the samples' token counts (N,)."""
    counts = np.asarray(tokens, dtype=np.float64)
    at_least(1, samples=counts.size)
    first, median, third = np.quantile(counts, [0.25, 0.5, 0.75]).tolist()
    return TokenUse(float(counts.mean()), float(np.min(counts)), (first, median, third), float(np.max(counts)))


def _curve(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(n,) each, n >= 1, finite."""
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise EvaluationError(f"a curve needs as many rates as values, and at least one, got {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise EvaluationError(f"a curve needs finite values, got {first.tolist()} and {second.tolist()}")
    return first, second


def _log10(rate: ArrayLike) -> np.ndarray:
    values = np.asarray(rate, dtype=np.float64)
    if not (values > 0).all():
        raise EvaluationError(f"rates must be above 0, got {values.tolist()}")
    return np.log10(values)


def _points(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = _curve(x, y)
    order = np.argsort(first)
    first, second = first[order], second[order]
    if len(first) < 4 or not (np.diff(first) > 0).all():
        raise EvaluationError(f"a Bjøntegaard delta needs at least 4 points with distinct values, got {first.tolist()}")
    return first, second


def _mean_gap(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> float:
    """Mean of second minus first over the range of x that both cover."""
    low, high = max(first[0][0], second[0][0]), min(first[0][-1], second[0][-1])
    if low >= high:
        raise EvaluationError("the two curves have no common range, so they cannot be compared")
    areas = [PchipInterpolator(x, y).integrate(low, high) for x, y in (first, second)]
    return float((areas[1] - areas[0]) / (high - low))


def _turns_right(x: np.ndarray, y: np.ndarray, a: int, b: int, c: int) -> bool:
    return bool((x[b] - x[a]) * (y[c] - y[a]) - (y[b] - y[a]) * (x[c] - x[a]) <= 0)
