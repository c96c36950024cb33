"""What frozen tokens know of classes: a linear classifier, and the nearest neighbours.

Say which features went in: token embeddings averaged over positions are the usual choice for grids, concatenated ones for short sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from visiontok.base.errors import EvaluationError

_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
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


def labelled(features: Tensor | ArrayLike, labels: Tensor | ArrayLike) -> LabelledFeatures:
    """Features (N, D) of any kind with their classes (N,)."""
    values = features.detach().cpu().numpy() if isinstance(features, Tensor) else features
    classes = labels.cpu().numpy() if isinstance(labels, Tensor) else labels
    return LabelledFeatures(np.asarray(values, dtype=np.float64), np.asarray(classes, dtype=np.int64))


def pooled(embeddings: Tensor, *, pooling: Literal["mean", "concatenate"]) -> Tensor:
    """Token embeddings (B, L, D) as one vector per sample: (B, D) or (B, L D)."""
    return embeddings.mean(dim=1) if pooling == "mean" else embeddings.flatten(1)


def linear_probe(train: LabelledFeatures, test: LabelledFeatures, *, inverse_penalty: float = 1.0) -> float:
    """Share of test samples that a linear classifier gets right.

    Features are standardised with the training side's mean and deviation, as a batch norm without weights does; then multinomial logistic
    regression to its optimum. The usual published recipe, 90 epochs of stochastic gradients on ImageNet, gives somewhat other numbers.

    Args:
        train, test: of the same features.
        inverse_penalty: C, the inverse of the L2 penalty.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second

    _same_width(train, test)
    mean, deviation = train.features.mean(axis=0), train.features.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    classifier = LogisticRegression(C=inverse_penalty, max_iter=2000)
    classifier.fit((train.features - mean) / scale, train.labels)
    return float((classifier.predict((test.features - mean) / scale) == test.labels).mean())


def nearest_neighbours(train: LabelledFeatures, test: LabelledFeatures, *, neighbours: int = 20, temperature: float = 0.07) -> float:
    """Share of test samples that the vote of their nearest training samples gets right.

    Cosine similarity; each of the `neighbours` votes for its class with weight exp(similarity / temperature), and of equal votes the
    lowest class wins.

    Raises:
        EvaluationError: if there are fewer training samples than neighbours.
    """
    _same_width(train, test)
    if len(train.labels) < neighbours:
        raise EvaluationError(f"{len(train.labels)} training samples have no {neighbours} neighbours")
    known, classes = _normalised(train.features), int(max(train.labels.max(), test.labels.max())) + 1
    labels, right = torch.from_numpy(train.labels), 0
    for start in range(0, len(test.labels), _BLOCK):
        rows = slice(start, start + _BLOCK)
        similarity, places = (_normalised(test.features[rows]) @ known.T).topk(neighbours, dim=1)
        votes = torch.zeros(len(places), classes, dtype=torch.float64)
        votes.scatter_add_(1, labels[places], ((similarity - 1) / temperature).exp())
        right += int((votes.argmax(dim=1) == torch.from_numpy(test.labels[rows])).sum())
    return right / len(test.labels)


def _normalised(features: np.ndarray) -> Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(features), dim=1)


def _same_width(train: LabelledFeatures, test: LabelledFeatures) -> None:
    if train.features.shape[1] != test.features.shape[1]:
        raise EvaluationError(f"features are {train.features.shape[1]} wide in training and {test.features.shape[1]} in the test")
