"""Entropy of a discrete distribution in bits, estimated from counts.

The plug-in estimate is low when samples are few: by about (m - 1) / (2 n ln 2) bits for m used codes and n samples. The others correct
that in different ways; they agree when n is large, and where they do not, n is too small for a reliable estimate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import quad
from scipy.special import digamma, xlogy

from visiontok.base.errors import EvaluationError

LN2 = float(np.log(2))


def plugin_entropy(counts: ArrayLike) -> float:
    """-sum p log2 p with p = c / n."""
    used, total = observed(counts)
    p = used / total
    return float(-xlogy(p, p).sum() / LN2) + 0.0  # no minus zero


def miller_madow_entropy(counts: ArrayLike) -> float:
    """Plug-in plus the first-order bias (m - 1) / 2n (Miller, 1955)."""
    used, total = observed(counts)
    return plugin_entropy(used) + (len(used) - 1) / (2 * total * LN2)


def chao_shen_entropy(counts: ArrayLike) -> float:
    """Coverage-adjusted Horvitz-Thompson estimate (Chao and Shen, 2003)."""
    used, total = observed(counts)
    singletons = int((used == 1).sum())
    coverage = 1 - min(singletons, total - 1) / total
    p = coverage * used / total
    return float(-(xlogy(p, p) / (1 - (1 - p) ** total)).sum() / LN2) + 0.0


def grassberger_entropy(counts: ArrayLike) -> float:
    """sum c/n (ln n - psi(c) - (-1)^c / (c + 1)) (Grassberger, 1988)."""
    used, total = observed(counts)
    sign = np.where(used % 2 == 0, 1.0, -1.0)
    return float((used / total * (np.log(total) - digamma(used) - sign / (used + 1))).sum() / LN2)


def zhang_entropy(counts: ArrayLike) -> float:
    """sum c/n (psi(n) - psi(c)): Zhang's (2012) estimate in closed form."""
    used, total = observed(counts)
    return float((used / total * (digamma(total) - digamma(used))).sum() / LN2)


def chao_wang_jost_entropy(counts: ArrayLike) -> float:
    """Zhang's estimate plus what the unseen codes are expected to add (Chao, Wang and Jost, 2013)."""
    used, total = observed(counts)
    once, twice = int((used == 1).sum()), int((used == 2).sum())
    if not once:
        return zhang_entropy(used)
    rate = 2 * twice / ((total - 1) * once + 2 * twice) if twice else 2 / ((total - 1) * (once - 1) + 2)
    if rate == 1:
        return zhang_entropy(used)
    # (1-A)^(1-n) sum_{r >= n} (1-A)^r / r as an integral: the sum itself needs n terms and differences of nearly equal numbers
    unseen, _ = quad(lambda t: np.exp(-t) / (rate * np.exp(-t / total) - np.expm1(-t / total)), 0, np.inf)
    return zhang_entropy(used) + float(once / total * (1 - rate) * unseen / total / LN2)


def shrink_entropy(counts: ArrayLike) -> float:
    """Plug-in after shrinking p towards the uniform distribution over all codes given (Hausser and Strimmer, 2009).

    Unlike the others it depends on the zeros among the counts: give the whole codebook's counts to shrink towards equal use of all
    codes, or only those above zero to shrink towards equal use of the codes seen.
    """
    values = np.asarray(counts, dtype=np.float64)
    observed(values)
    total, target = values.sum(), 1 / values.size
    p = values / total
    distance = ((target - p) ** 2).sum()
    weight = 1.0 if total < 2 or distance == 0 else float(np.clip((1 - (p**2).sum()) / ((total - 1) * distance), 0, 1))
    shrunk = weight * target + (1 - weight) * p
    return float(-xlogy(shrunk, shrunk).sum() / LN2) + 0.0


def observed(counts: ArrayLike) -> tuple[np.ndarray, int]:
    """The counts above zero as floats, and their sum.

    Raises:
        EvaluationError: if nothing was counted or a count is negative.
    """
    values = np.asarray(counts, dtype=np.float64).ravel()
    if (values < 0).any() or not values.sum() > 0:
        raise EvaluationError("counts must not be negative and at least one must be above zero")
    return values[values > 0], int(values.sum())
