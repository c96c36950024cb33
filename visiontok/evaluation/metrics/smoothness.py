"""How smooth predicted distributions over ordered codes are (Fourier head, arXiv 2410.22269)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d

from visiontok.base.errors import EvaluationError

WIDTHS = range(1, 101)
"""Of the Gaussians, in codes."""


def roughness_of_distributions(probabilities: ArrayLike) -> np.ndarray:
    """How much distributions differ from their own smoothed versions; 0 for uniform ones, and smaller is smoother.

    The sum over the widths s = 1 ... 100 of 6 / (pi s)^2 * ||p - G_s * p||_2, where G_s is a Gaussian of that deviation on the circle of codes.
    The codes must be ordered: neighbors in number mean neighbors in value.

    Args:
        probabilities: (..., V), not negative, of sum 1; V at least 2.

    Returns:
        (...) float64.

    Raises:
        EvaluationError: for values that are no distributions.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim < 1 or p.shape[-1] < 2 or not np.isfinite(p).all() or (p < 0).any() or not np.allclose(p.sum(axis=-1), 1, atol=1e-3):
        raise EvaluationError(f"expected distributions (..., V) over at least 2 codes: not negative, of sum 1; got an array of shape {p.shape}")
    found = np.zeros(p.shape[:-1])
    for width in WIDTHS:
        smoothed = gaussian_filter1d(p, width, axis=-1, mode="wrap", radius=p.shape[-1] - 1)
        found += 6 / (math.pi * width) ** 2 * np.linalg.norm(p - smoothed, axis=-1)
    return found
