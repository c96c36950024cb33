"""The Fréchet distance between two Gaussians, |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), in float64.

For any square roots S1 = A A^T and S2 = B B^T the trace term is the nuclear norm (the sum of the singular values) of A^T B. Roots of
eigenvalues of S1 S2 are the same numbers, but there a rounding error of 1e-16 in an eigenvalue that should be 0 becomes 1e-8 in its root.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import lapack

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.features.statistics import check_moments
from visiontok.evaluation.metrics.moments import Moments


def frechet_distance(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> float:
    """Fréchet distance from means and covariances, also singular ones.

    Args:
        mu1, mu2: means (D,).
        sigma1, sigma2: covariances (D, D), unbiased by convention.

    Returns:
        The distance; for two equal sides it may be a rounding error below zero.

    Raises:
        EvaluationError: if the shapes differ, a number is not finite or a matrix is not a covariance.
    """
    mean1, covariance1 = _checked(mu1, sigma1, "first")
    mean2, covariance2 = _checked(mu2, sigma2, "second")
    if mean1.shape != mean2.shape:
        raise EvaluationError(f"the two sides have {len(mean1)} and {len(mean2)} features; they must come from the same extractor")
    return _distance(mean1, covariance1, _root(covariance1), mean2, covariance2, _root(covariance2))


def frechet_distance_of_features(features1: ArrayLike, features2: ArrayLike) -> float:
    """Fréchet distance from features (N1, D) and (N2, D) that are kept in memory.

    Where a side has fewer samples than dimensions, its centered features are themselves a root of its covariance, exact for any rank.

    Raises:
        EvaluationError: if the widths differ, a number is not finite or a side has fewer than two samples.
    """
    sides = []
    for features in (features1, features2):
        values = np.asarray(features, dtype=np.float64)
        moments = Moments()
        moments.update(values)
        statistics = moments.compute()
        few = statistics.count < len(statistics.mean)
        root = (values - statistics.mean).T / np.sqrt(statistics.count - 1) if few else _root(statistics.covariance)
        sides.append((statistics.mean, statistics.covariance, root))
    if sides[0][0].shape != sides[1][0].shape:
        raise EvaluationError(f"features are {len(sides[0][0])} and {len(sides[1][0])} wide; they must come from the same extractor")
    return _distance(*sides[0], *sides[1])


def _distance(mean1: np.ndarray, covariance1: np.ndarray, root1: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray, root2: np.ndarray) -> float:
    gap = mean1 - mean2
    return float(gap @ gap + np.trace(covariance1) + np.trace(covariance2) - 2 * _nuclear_norm(root1.T @ root2, dimensions=len(gap)))


def _nuclear_norm(product: np.ndarray, *, dimensions: int) -> float:
    """Sum of the singular values of A^T B (r1, r2)."""
    if product.shape == (dimensions, dimensions):
        # Both covariances have full rank. Pivoting made the rows of A^T fall in size; LAPACK's reduction of such a graded matrix from its
        # upper left corner ("L") keeps the small eigenvalues accurate too, in half the time of a singular value decomposition.
        return float(np.sqrt(np.maximum(np.linalg.eigvalsh(product @ product.T, UPLO="L"), 0)).sum())
    return float(np.linalg.svd(product, compute_uv=False).sum())


def _root(covariance: np.ndarray) -> np.ndarray:
    """A (D, r) with A A^T = covariance of numerical rank r, by a Cholesky decomposition with pivoting.

    It works on the correlations, so that features of small variance are not lost beside those of large variance. What lies below
    D * eps there is rounding noise of a singular covariance and counts as 0.
    """
    size = len(covariance)
    deviation = np.sqrt(np.maximum(covariance.diagonal(), 0))  # a constant feature may be a rounding error below 0
    inverse = np.divide(1, deviation, out=np.zeros(size), where=deviation > 0)
    correlation = covariance * inverse[:, None] * inverse
    factor, pivots, rank, _ = lapack.dpstrf(correlation, lower=1, tol=size * np.finfo(np.float64).eps)
    root = np.empty((size, rank))
    root[pivots - 1] = np.tril(factor)[:, :rank]
    if rank < size:
        missing = np.abs(root @ root.T - correlation).max()
        if missing > 1e-2:
            raise EvaluationError(f"a matrix is not a covariance: it has negative eigenvalues (a correlation is off by {missing:.3g})")
    return root * deviation[:, None]


def _checked(mean: ArrayLike, covariance: ArrayLike, side: str) -> tuple[np.ndarray, np.ndarray]:
    mu, sigma = np.asarray(mean, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)) or not len(mu):
        raise EvaluationError(f"the {side} side has a mean of shape {mu.shape} and a covariance of shape {sigma.shape}; expected (D,) and (D, D)")
    check_moments(mu, sigma, side=f"{side} side")
    constant = sigma.diagonal() <= 1e-14 * np.square(mu)  # what a computed covariance holds of a constant feature is rounding error
    return mu, np.where(constant[:, None] | constant, 0.0, sigma)
