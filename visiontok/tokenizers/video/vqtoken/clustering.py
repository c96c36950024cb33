"""The codebook of one clip: k-means over its feature vectors, with a given number of clusters or with one that follows from the clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.base.noise import Noise


class FixedClusters(Config):
    """A number of clusters that is the same for every clip.

    Attributes:
        count: of the clusters, K.
        max_iterations, tolerance: see `kmeans`.
    """

    type: Literal["fixed"] = "fixed"
    count: Positive = 32
    max_iterations: Positive = 50
    tolerance: Annotated[float, Field(ge=0)] = 1e-4

    @property
    def most(self) -> int:
        """Codes of the vocabulary."""
        return self.count


class AdaptiveClusters(Config):
    """A number of clusters that is chosen for each clip after k-means with every number in a range.

    Attributes:
        type: how it is chosen.
        fewest, most: of the range, both included.
        max_iterations, tolerance: see `kmeans`.
    """

    type: Literal["elbow", "silhouette"] = "elbow"
    fewest: Annotated[int, Field(ge=2)] = 12
    most: Positive = 32
    max_iterations: Positive = 100
    tolerance: Annotated[float, Field(ge=0)] = 1e-4

    @model_validator(mode="after")
    def _check(self) -> AdaptiveClusters:
        least = self.fewest + (2 if self.type == "elbow" else 0)
        if self.most < least:
            raise ValueError(f"{self.type} over {self.fewest} to {self.most} clusters: most must be at least {least}")
        return self


@dataclass(frozen=True)
class Clusters:
    """What k-means found for rows (n, D).

    Attributes:
        labels: (n,) int64 cluster of every row, from 0.
        centers: (K, D); those by which the labels were assigned, or after `max_iterations` those that followed from them.
        distortion: sum of the squared distances of the rows to their centers, a scalar.
    """

    labels: Tensor
    centers: Tensor
    distortion: Tensor


Choice = Callable[[Tensor, Sequence[Clusters]], int]
"""From rows (n, D) of length 1, and their clusters with each number of them in turn: the number to take."""


@torch.no_grad()
def cluster(rows: Tensor, config: FixedClusters | AdaptiveClusters, *, choices: Mapping[str, Choice], noise: Noise) -> Clusters:
    """Clusters of rows (n, D) of length 1; where their number is adaptive, k-means runs once more with the one that was chosen.

    Args:
        rows: float32.
        config: how many clusters.
        choices: of an adaptive number, by its type.
        noise: see `kmeans`.
    """

    def run(count: int) -> Clusters:
        return kmeans(rows, count, max_iterations=config.max_iterations, tolerance=config.tolerance, noise=noise)

    if isinstance(config, FixedClusters):
        return run(config.count)
    return run(choices[config.type](rows, [run(count) for count in range(config.fewest, config.most + 1)]))


def kmeans(rows: Tensor, count: int, *, max_iterations: int, tolerance: float, noise: Noise) -> Clusters:
    """K-means by cosine distance from a k-means++ start. Centers are plain means, and empty clusters keep theirs.

    Args:
        rows: (n, D) float32 of length 1.
        count: of the clusters, K.
        max_iterations: at most so many assignments of labels.
        tolerance: it ends where the centers move by less, in Frobenius norm; that last move is not made.
        noise: source of K exponential draws (1, n), see `starting_rows`.
    """
    centers = rows[starting_rows(rows, count, noise)]
    for _ in range(max_iterations):
        labels = (1 - F.normalize(rows, dim=1) @ F.normalize(centers, dim=1).T).min(dim=1).indices
        means, sizes = cluster_means(rows, labels, count)
        moved = torch.where(sizes[:, None] > 0, means, centers)
        if torch.linalg.norm(moved - centers) < tolerance:
            break
        centers = moved
    return Clusters(labels, centers, (rows - centers[labels]).square().sum())


def starting_rows(rows: Tensor, count: int, noise: Noise) -> Tensor:
    """K-means++: (K,) int64 rows, the first one uniformly, each further one by its squared distance to the nearest before it, plus 1e-6.

    Args:
        rows: (n, D).
        count: K.
        noise: source of K exponential draws (1, n); a row is drawn as the largest weight / draw, as `torch.multinomial` does it on the CPU.
    """
    weights, chosen = rows.new_ones(len(rows)), []
    for number in range(count):
        row = (weights / noise.exponential(1, len(rows))[0]).argmax()
        squared = (rows - rows[row]).square().sum(dim=1) + 1e-6
        weights = squared if number == 0 else torch.minimum(weights, squared)
        chosen.append(row)
    return torch.stack(chosen)


def cluster_means(values: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Means (K, D) of values (n, D) by cluster, zero where a cluster is empty, and the sizes (K,) of the clusters."""
    members = F.one_hot(labels, count).to(values.dtype)
    sizes = members.sum(dim=0)
    return members.T @ values / sizes.clamp_min(1)[:, None], sizes


def elbow(rows: Tensor, runs: Sequence[Clusters]) -> int:
    """The number of clusters at which the distortion bends most: that in the middle of its largest second difference."""
    return len(runs[_largest_bend(runs) + 1].centers)


def published_elbow(rows: Tensor, runs: Sequence[Clusters]) -> int:
    """As the authors' code has it: the index of the largest second difference plus 4, and not below the fewest.

    Its index counts from the first run, as if that had 1 cluster, so that it seldom takes more than the fewest.
    """
    return max(_largest_bend(runs) + 4, len(runs[0].centers))


def silhouette(rows: Tensor, runs: Sequence[Clusters]) -> int:
    """The number of clusters with the largest mean silhouette (Rousseeuw 1987) by cosine distance; of equal ones the fewest."""
    widths = torch.stack([silhouette_widths(rows, run.labels, len(run.centers)).mean() for run in runs])
    return len(runs[int(widths.max(dim=0).indices)].centers)


def published_silhouette(rows: Tensor, runs: Sequence[Clusters]) -> int:
    """As the authors' code has it: always the fewest. Its score is a mean similarity of neighbors, which does not depend on the clusters."""
    return len(runs[0].centers)


def silhouette_widths(rows: Tensor, labels: Tensor, count: int) -> Tensor:
    """(n,) silhouettes (b - a) / max(a, b) of rows (n, D) of length 1: mean distance to the own cluster, and to the nearest other; 0 for one alone.

    Cosine distances to a cluster have the mean 1 - x . m with its mean m, so that no distance between two rows is needed.
    """
    means, sizes = cluster_means(rows, labels, count)
    distances, own = 1 - rows @ means.T, labels[:, None]
    others = distances.masked_fill(sizes == 0, torch.inf).scatter(1, own, torch.inf).amin(dim=1)
    size = sizes[labels]
    within = distances.gather(1, own)[:, 0] * size / (size - 1).clamp_min(1)
    widths = (others - within) / torch.maximum(others, within).clamp_min(torch.finfo(rows.dtype).tiny)
    return torch.where((size > 1) & others.isfinite(), widths, 0.0)


def _largest_bend(runs: Sequence[Clusters]) -> int:
    """Index of the first largest second difference of the distortions."""
    return int(torch.stack([run.distortion for run in runs]).diff(n=2).max(dim=0).indices)
