"""How fast new ids appear as images are read (after Chan et al., arXiv 2411.05001)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def innovation_curve(indices: ArrayLike) -> np.ndarray:
    """Distinct ids in the first i images.

    Args:
        indices: (N, L) int, one row per image, in the order in which they are read.

    Returns:
        (N,) int64, never falling.
    """
    ids = np.asarray(indices, dtype=np.int64)
    _, first = np.unique(ids, return_index=True)
    return np.cumsum(np.bincount(first // ids.shape[1], minlength=len(ids)))


def images_to_share(curve: ArrayLike, share: float) -> int:
    """Number of images after which `share` of all ids ever seen had appeared."""
    values = np.asarray(curve)
    return int(np.argmax(values >= share * values[-1])) + 1


def heaps_fit(curve: ArrayLike, *, tokens_per_image: int) -> tuple[float, float]:
    """Least squares of log(distinct ids) on log(ids read): (factor, exponent) of Heaps' law, distinct = factor * read^exponent."""
    distinct = np.asarray(curve, dtype=np.float64)
    read = tokens_per_image * np.arange(1, len(distinct) + 1)
    exponent, intercept = np.polyfit(np.log(read), np.log(distinct), 1)
    return float(np.exp(intercept)), float(exponent)
