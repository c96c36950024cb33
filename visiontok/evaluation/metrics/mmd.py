"""Maximum mean discrepancy between two sets of features: the kernel distance of KID, and CMMD.

A number is called KID or CMMD only with the features these names stand for (Inception; CLIP). The estimate without the kernel's
diagonal is unbiased and may be negative; CMMD's released code keeps the diagonal.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.checks import at_least, feature_pair

_BLOCK = 1024

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def polynomial_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x . y / D + 1)^3, the kernel of KID (Bińkowski et al., 2018): (N, D), (M, D) -> (N, M)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian_kernel(x: np.ndarray, y: np.ndarray, *, sigma: float) -> np.ndarray:
    """exp(-|x - y|^2 / 2 sigma^2): (N, D), (M, D) -> (N, M)."""
    squared = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * x @ y.T
    return np.exp(-np.maximum(squared, 0) / (2 * sigma**2))


def squared_mmd(features1: ArrayLike, features2: ArrayLike, *, kernel: Kernel = polynomial_kernel, unbiased: bool = True) -> float:
    """Squared MMD of (N, D) and (M, D); without the kernels' diagonals if `unbiased`. Works in blocks of rows, which bound the memory."""
    first, second = feature_pair(features1, features2, fewest=2)
    across = _total(kernel, first, second)[0] / (len(first) * len(second))
    return _within(kernel, first, unbiased) + _within(kernel, second, unbiased) - 2 * across


def kernel_distance(
    features1: ArrayLike, features2: ArrayLike, *, subsets: int = 100, subset_size: int = 1000, seed: int = 2020, kernel: Kernel = polynomial_kernel
) -> tuple[float, float]:
    """Mean and population standard deviation of the unbiased squared MMD over random subsets.

    Each subset draws `subset_size` rows without replacement, first from `features1`, then from `features2`, from
    `numpy.random.RandomState(seed)`: the draws of torch-fidelity.

    Raises:
        EvaluationError: if a side has fewer rows than a subset, a subset fewer than two, or a number is not finite.
    """
    at_least(1, subsets=subsets)
    at_least(2, subset_size=subset_size)
    first, second = feature_pair(features1, features2, fewest=2)
    if min(len(first), len(second)) < subset_size:
        raise EvaluationError(f"subsets of {subset_size} cannot be drawn from {len(first)} and {len(second)} samples; use a smaller subset_size")
    draw = np.random.RandomState(seed)
    values = [
        squared_mmd(
            first[draw.choice(len(first), subset_size, replace=False)], second[draw.choice(len(second), subset_size, replace=False)], kernel=kernel
        )
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def cmmd(embeddings1: ArrayLike, embeddings2: ArrayLike, *, unbiased: bool = False) -> float:
    """1000 times the squared MMD with a Gaussian kernel of sigma 10 (arXiv 2401.09603).

    Args:
        embeddings1, embeddings2: image embeddings (N, D), (M, D); they are L2-normalized here.
        unbiased: exclude the diagonal, as in the paper; the released code, and so this default, keeps it.

    Raises:
        EvaluationError: if an embedding is zero, which has no direction, or not finite.
    """
    sides = []
    for side, values in zip(("first", "second"), feature_pair(embeddings1, embeddings2, fewest=2), strict=True):
        lengths = np.linalg.norm(values, axis=1, keepdims=True)
        if not lengths.all():
            raise EvaluationError(f"the embedding of sample {int(lengths.argmin())} of the {side} set is zero, which cannot be normalized")
        sides.append(values / lengths)
    first, second = sides
    return 1000 * squared_mmd(first, second, kernel=partial(gaussian_kernel, sigma=10.0), unbiased=unbiased)


def _within(kernel: Kernel, values: np.ndarray, unbiased: bool) -> float:
    total, diagonal = _total(kernel, values, values)
    size = len(values)
    return (total - diagonal) / (size * (size - 1)) if unbiased else total / size**2


def _total(kernel: Kernel, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Sum of the kernel over all pairs, and over the pairs of equal indices."""
    total, diagonal = 0.0, 0.0
    for start in range(0, len(first), _BLOCK):
        values = kernel(first[start : start + _BLOCK], second)
        total += float(values.sum())
        diagonal += float(np.trace(values, offset=start))
    return total, diagonal
