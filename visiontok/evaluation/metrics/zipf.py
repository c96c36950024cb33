"""Rank-frequency laws of codes: does their use fall as a power of the rank?

Two different exponents are in use. `zipf_fit` fits p(rank) ~ rank^-s, the law of language. `count_exponent` fits P(count) ~ count^-alpha,
the distribution of the counts themselves, for which an ideal Zipf law gives alpha = 1 + 1/s. Never compare one with the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize, minimize_scalar
from scipy.special import zeta

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.checks import at_least
from visiontok.evaluation.metrics.entropy import observed

STEEPEST = 64.0
"""Largest exponent: between two codes, 2^64 to one."""


@dataclass(frozen=True)
class ZipfFit:
    """p(r) = (r + shift)^-exponent / normalizer, r = 1 ... support.

    Attributes:
        exponent: s.
        shift: q of the Zipf-Mandelbrot law; 0 for Zipf's.
        support: number of ranks.
        log_likelihood: of all counted tokens, in nats.
        max_cdf_gap: largest distance between the empirical and the fitted distribution function over ranks.
    """

    exponent: float
    shift: float
    support: int
    log_likelihood: float
    max_cdf_gap: float


def rank_frequency(counts: ArrayLike) -> np.ndarray:
    """Counts above zero, largest first, int64."""
    return np.sort(observed(counts)[0])[::-1].astype(np.int64)


def zipf_fit(counts: ArrayLike, *, support: int | None = None) -> ZipfFit:
    """Maximum likelihood of the finite Zipf law: the exponent to report.

    Args:
        counts: of each code.
        support: number of ranks; by default the codes observed. Give K to count unseen codes as possible.

    Raises:
        EvaluationError: with fewer than two observed codes, whose likelihood has no maximum.
    """
    frequency, ranks = _ranked(counts, support, fewest=2)
    found = minimize_scalar(lambda s: -_log_likelihood(frequency, ranks, s, 0.0), bounds=(0, STEEPEST), method="bounded", options={"xatol": 1e-10})
    return _fit(frequency, ranks, float(found.x), 0.0)


def mandelbrot_fit(counts: ArrayLike, *, support: int | None = None) -> ZipfFit:
    """Maximum likelihood of the Zipf-Mandelbrot law with a shift q > -1.

    Raises:
        EvaluationError: with fewer than three observed codes, or where the likelihood has no maximum: it then grows for ever as the shift nears
            -1, or as shift and exponent grow together, where counts fall exponentially.
    """
    frequency, ranks = _ranked(counts, support, fewest=3)
    start = zipf_fit(counts, support=support).exponent
    total = frequency.sum()
    found = minimize(
        lambda p: -_log_likelihood(frequency, ranks, p[0], np.expm1(p[1])) / total,
        x0=[start, 0.0],
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 4000},
    )
    exponent, shift = float(found.x[0]), float(np.expm1(found.x[1]))
    if not found.success or not -1 + 1e-6 < shift < 1e3 * len(ranks) or not abs(exponent) < STEEPEST:
        raise EvaluationError(f"the likelihood of the Zipf-Mandelbrot law has no maximum for these {len(frequency)} codes")
    return _fit(frequency, ranks, exponent, shift)


@dataclass(frozen=True)
class LogLogFit:
    """Straight line through log frequency over log rank; biased by the many ties among rare codes."""

    exponent: float
    intercept: float
    r_squared: float


def log_log_fit(counts: ArrayLike, *, top: int | None = None) -> LogLogFit:
    """Least squares of ln frequency on ln rank over all observed codes, or over the `top` most frequent."""
    if top is not None:
        at_least(2, top=top)
    frequency = rank_frequency(counts)[:top]
    if len(frequency) < 2:
        raise EvaluationError("a line needs at least two observed codes")
    x, y = np.log(np.arange(1, len(frequency) + 1)), np.log(frequency)
    slope, intercept = np.polyfit(x, y, 1)
    residual = y - slope * x - intercept
    variation = float(np.square(y - y.mean()).sum())
    return LogLogFit(-float(slope), float(intercept), 1 - float(np.square(residual).sum()) / variation if variation else 1.0)


def count_exponent(counts: ArrayLike, *, minimum: int = 1) -> float:
    """Maximum likelihood alpha of P(count = c) = c^-alpha / zeta(alpha, minimum) over the codes counted at least `minimum` times.

    Raises:
        EvaluationError: if no code was counted as often, or all just so often, whose likelihood has no maximum.
    """
    tail = _tail(counts, minimum)
    if tail.max() == minimum:
        raise EvaluationError(f"every code was counted {minimum} times, which fits any large exponent")
    mean_log = float(np.log(tail).mean())
    found = minimize_scalar(lambda a: np.log(zeta(a, minimum)) + a * mean_log, bounds=(1 + 1e-6, 20), method="bounded", options={"xatol": 1e-10})
    return float(found.x)


def approximate_count_exponent(counts: ArrayLike, *, minimum: int = 1) -> float:
    """1 + n / sum ln(c / (minimum - 1/2)): the closed form of Clauset et al. (2009), wrong for small minima; shown for comparison only."""
    tail = _tail(counts, minimum)
    return float(1 + len(tail) / np.log(tail / (minimum - 0.5)).sum())


def _tail(counts: ArrayLike, minimum: int) -> np.ndarray:
    at_least(1, minimum=minimum)
    values = observed(counts)[0]
    tail = values[values >= minimum]
    if not len(tail):
        raise EvaluationError(f"no code was counted {minimum} times or more")
    return tail


def _ranked(counts: ArrayLike, support: int | None, *, fewest: int) -> tuple[np.ndarray, np.ndarray]:
    frequency = rank_frequency(counts).astype(np.float64)
    at_least(fewest, observed_codes=len(frequency))
    size = len(frequency) if support is None else support
    if size < len(frequency):
        raise EvaluationError(f"{len(frequency)} codes were observed, more than a support of {size}")
    return frequency, np.arange(1, size + 1, dtype=np.float64)


def _log_likelihood(frequency: np.ndarray, ranks: np.ndarray, exponent: float, shift: float) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):  # the search may try a shift of -1, whose likelihood is 0
        log_weights = -exponent * np.log(ranks + shift)
        log_weights = log_weights - np.max(log_weights)
    return float(frequency @ log_weights[: len(frequency)] - frequency.sum() * np.log(np.exp(log_weights).sum()))


def _fit(frequency: np.ndarray, ranks: np.ndarray, exponent: float, shift: float) -> ZipfFit:
    weights = (ranks + shift) ** -exponent
    empirical = np.zeros(len(ranks))
    empirical[: len(frequency)] = frequency / frequency.sum()
    gap = np.abs(np.cumsum(empirical) - np.cumsum(weights / weights.sum())).max()
    return ZipfFit(exponent, shift, len(ranks), _log_likelihood(frequency, ranks, exponent, shift), float(gap))
