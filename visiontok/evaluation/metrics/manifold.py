"""Fidelity and diversity by nearest neighbors: precision, recall (Kynkäänniemi et al., 2019), density, coverage (Naeem et al., 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.checks import at_least, feature_pair

_BLOCK = 1024
_NOISE = 16 * float(np.finfo(np.float64).eps)
"""Of the squared lengths of two rows: what lies below in their squared distance is rounding."""


@dataclass(frozen=True)
class ManifoldScores:
    """Shares in [0, 1], density excepted.

    Attributes:
        precision: generated samples that lie within the k-th-neighbor ball of some real one.
        recall: real samples that lie within the ball of some generated one.
        density: mean number of real balls around a generated sample, over k; may exceed 1.
        coverage: real samples whose ball holds a generated one.
        neighbors: k.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    neighbors: int


def manifold_scores(generated: ArrayLike, real: ArrayLike, *, neighbors: int = 3) -> ManifoldScores:
    """Scores of generated against real features, with Euclidean distances in float64, in blocks that bound the memory.

    A ball reaches to the k-th neighbor, the sample itself not counted; a point on its surface lies inside for precision and recall
    (`<=`), outside for density and coverage (`<`), as their authors define them.

    Args:
        generated: (N, D).
        real: (M, D).
        neighbors: k, 3 in the published protocols.

    Raises:
        EvaluationError: if the widths differ, a number is not finite, k is below 1 or a side has no k-th neighbor.
    """
    at_least(1, neighbors=neighbors)
    fake, true = feature_pair(generated, real, fewest=1)
    if min(len(fake), len(true)) <= neighbors:
        raise EvaluationError(f"{len(fake)} generated and {len(true)} real samples have no {neighbors}-th neighbor each; use more samples")
    fake_radius, true_radius = _squared_radii(fake, neighbors), _squared_radii(true, neighbors)
    inside, around, recalled, covered = 0, 0, np.zeros(len(true), dtype=bool), np.zeros(len(true), dtype=bool)
    for rows, squared in _squared_distances(fake, true):
        inside += int((squared <= true_radius).any(axis=1).sum())
        around += int((squared < true_radius).sum())
        recalled |= (squared <= fake_radius[rows, None]).any(axis=0)
        covered |= (squared < true_radius).any(axis=0)
    return ManifoldScores(inside / len(fake), float(recalled.mean()), around / (neighbors * len(fake)), float(covered.mean()), neighbors)


def neighbor_distances(features: np.ndarray, neighbors: int) -> np.ndarray:
    """(N,) distance of every row (N, D) to its k-th neighbor among the others."""
    return np.sqrt(_squared_radii(features, neighbors))


def _squared_radii(features: np.ndarray, neighbors: int) -> np.ndarray:
    radii = np.empty(len(features))
    for rows, squared in _squared_distances(features, features):
        radii[rows] = np.partition(squared, neighbors, axis=1)[:, neighbors]
    return radii


def _squared_distances(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of rows and their squared distances to all of `second`; those of equal rows are 0, and no rounding noise."""
    center = second.mean(axis=0)
    first, second = first - center, second - center
    norms = np.square(second).sum(axis=1)
    for start in range(0, len(first), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(first)))
        block = first[rows]
        lengths = np.square(block).sum(axis=1)[:, None] + norms
        squared = lengths - 2 * block @ second.T
        yield rows, np.where(squared > _NOISE * lengths, squared, 0.0)
