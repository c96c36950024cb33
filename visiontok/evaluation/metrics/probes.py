"""Prediction of classes from frozen tokens, by a linear classifier and by nearest neighbors.

Report which features were used: token embeddings averaged over positions are the usual choice for grids, concatenated ones for short sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.errors import EvaluationError
from visiontok.data import DataConfig
from visiontok.evaluation.metrics.checks import at_least

_BLOCK = 1024


class ProbeConfig(Config):
    """How a suite probes tokens.

    Attributes:
        data: training samples with classes; the suite's own samples are the test set.
        num_samples: that many training samples, drawn with the suite's seed; None for all.
        pooling: token embeddings are averaged over positions, the usual choice for grids, or concatenated, for short sequences.
        neighbors: that vote.
        inverse_penalty: of the linear classifier.
    """

    data: DataConfig
    num_samples: Annotated[int, Field(gt=0)] | None = None
    pooling: Literal["mean", "concatenate"] = "mean"
    neighbors: Annotated[int, Field(gt=0)] = 20
    inverse_penalty: Annotated[float, Field(gt=0)] = 1.0


@dataclass(frozen=True, eq=False)
class LabeledFeatures:
    """One side of a probe.

    Attributes:
        features: (N, D) float64.
        labels: (N,) int64.
    """

    features: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.labels.shape != (len(self.features),) or not len(self.labels):
            raise EvaluationError(f"expected features (N, D) and labels (N,), got {self.features.shape} and {self.labels.shape}")
        if not np.isfinite(self.features).all():
            raise EvaluationError("the features hold numbers that are not finite")


def labeled(features: Tensor | ArrayLike, labels: Tensor | ArrayLike) -> LabeledFeatures:
    """Features (N, D) of any kind with their classes (N,)."""
    values = features.detach().cpu().numpy() if isinstance(features, Tensor) else features
    classes = labels.cpu().numpy() if isinstance(labels, Tensor) else labels
    return LabeledFeatures(np.asarray(values, dtype=np.float64), np.asarray(classes, dtype=np.int64))


def pooled(embeddings: Tensor, *, pooling: Literal["mean", "concatenate"], mask: Tensor | None = None) -> Tensor:
    """Token embeddings (B, L, D) as one vector per sample: (B, D), the mean over the tokens that `mask` (B, L) says are held, or (B, L D)."""
    if pooling == "concatenate":
        return embeddings.flatten(1)
    if mask is None:
        return embeddings.mean(dim=1)
    held = mask[..., None].to(embeddings.dtype)
    return (embeddings * held).sum(dim=1) / held.sum(dim=1).clamp_min(1)


def linear_probe(train: LabeledFeatures, test: LabeledFeatures, *, inverse_penalty: float = 1.0) -> np.ndarray:
    """Whether a linear classifier classifies each test sample correctly.

    Features are standardized with the training side's mean and deviation, as a batch norm without weights does; then multinomial logistic
    regression to its optimum. The usual published recipe, 90 epochs of stochastic gradients on ImageNet, gives somewhat other numbers.

    Args:
        train, test: of the same features.
        inverse_penalty: C, the inverse of the L2 penalty.

    Returns:
        (N,) bool, one per test sample; its mean is the accuracy.

    Raises:
        EvaluationError: if all training samples are of one class.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second

    _same_width(train, test)
    if len(np.unique(train.labels)) < 2:
        raise EvaluationError(f"a classifier needs two classes, but all {len(train.labels)} training samples are of class {train.labels[0]}")
    mean, deviation = train.features.mean(axis=0), train.features.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    classifier = LogisticRegression(C=inverse_penalty, max_iter=2000)
    classifier.fit((train.features - mean) / scale, train.labels)
    return np.asarray(classifier.predict((test.features - mean) / scale) == test.labels)


def nearest_neighbors(train: LabeledFeatures, test: LabeledFeatures, *, neighbors: int = 20, temperature: float = 0.07) -> np.ndarray:
    """Whether the vote of its nearest training samples classifies each test sample correctly.

    Cosine similarity; each of the `neighbors` votes for its class with weight exp(similarity / temperature), and of equal votes the
    lowest class wins.

    Returns:
        (N,) bool, one per test sample; its mean is the accuracy.

    Raises:
        EvaluationError: if there are fewer training samples than neighbors, or no neighbor or temperature.
    """
    _same_width(train, test)
    at_least(1, neighbors=neighbors)
    if not temperature > 0:
        raise EvaluationError(f"temperature must be positive, got {temperature}")
    if len(train.labels) < neighbors:
        raise EvaluationError(f"{len(train.labels)} training samples have no {neighbors} neighbors")
    known, classes = _normalized(train.features), int(max(train.labels.max(), test.labels.max())) + 1
    labels, right = torch.from_numpy(train.labels), []
    for start in range(0, len(test.labels), _BLOCK):
        rows = slice(start, start + _BLOCK)
        similarity, nearest = (_normalized(test.features[rows]) @ known.T).topk(neighbors, dim=1)
        votes = torch.zeros(len(nearest), classes, dtype=torch.float64)
        votes.scatter_add_(1, labels[nearest], ((similarity - 1) / temperature).exp())
        right.append(votes.argmax(dim=1).numpy() == test.labels[rows])
    return np.concatenate(right)


def _normalized(features: np.ndarray) -> Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(features), dim=1)


def _same_width(train: LabeledFeatures, test: LabeledFeatures) -> None:
    if train.features.shape[1] != test.features.shape[1]:
        raise EvaluationError(f"features are {train.features.shape[1]} wide in training and {test.features.shape[1]} in the test")
