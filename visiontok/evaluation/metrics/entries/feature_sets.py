"""Metrics that need the features of all pictures at once, not their moments: kernel distances, neighbours, the Inception Score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from pydantic import JsonValue

from visiontok.evaluation.features import FeatureExtractor
from visiontok.evaluation.features.inception import InceptionV3Compat
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.entries.base import Batch, Measure
from visiontok.evaluation.metrics.inception_score import inception_score, inception_score_of_blocks
from visiontok.evaluation.metrics.manifold import manifold_scores
from visiontok.evaluation.metrics.mmd import cmmd, kernel_distance
from visiontok.evaluation.metrics.per_sample import PerImage
from visiontok.evaluation.metrics.value import MetricValue

_SPREAD_OF_SUBSETS = "the random subsets share pictures, so their spread (deviation_of_subsets) is none"
_SPREAD_OF_SPLITS = "the spread of the splits (deviation_of_splits) is none, and the score of resampled pictures is biased"
_DIAGONAL = "the kernel's diagonal is kept, and pictures that are drawn twice would add to it"
_NEIGHBOURS_OF_ITSELF = "a picture that is drawn twice is its own nearest neighbour, so that resampling says nothing here"

SUBSETS, SUBSET_SIZE, SEED, NEIGHBOURS, SPLITS, BLOCK = 100, 1000, 2020, 3, 10, 5000


class FeatureSetMeasure(Measure):
    """Some of the metrics in `FEATURE_SETS` over one extractor; features are kept in float32, 4 D bytes per picture and side."""

    def __init__(self, extractor: FeatureExtractor, metrics: tuple[str, ...]) -> None:
        self._extractor, self._metrics = extractor, metrics
        self._table = PerImage()
        super().__init__(images=self._table)

    def update(self, batch: Batch) -> None:
        self._table.update(
            batch.numbers,
            reference=batch.reference_features(self._extractor).float(),
            reconstruction=batch.reconstruction_features(self._extractor).float(),
        )

    def values(self, bootstrap: BootstrapConfig) -> list[MetricValue]:
        table = self._table.compute()
        return set_values(self._metrics, self._extractor, table["reconstruction"], table["reference"])


def kernel_values(extractor: FeatureExtractor, measured: np.ndarray, reference: np.ndarray) -> list[MetricValue]:
    """The kernel distance, called KID over Inception's features."""
    size = min(SUBSET_SIZE, len(measured), len(reference))
    mean, deviation = kernel_distance(measured, reference, subsets=SUBSETS, subset_size=size, seed=SEED)
    how = f"mean over {SUBSETS} subsets of {size} drawn by RandomState({SEED}) of the unbiased squared MMD with the kernel (x.y / D + 1)^3"
    return [_value(extractor, "MMD", mean, "lower", measured, reference, how, _SPREAD_OF_SUBSETS, deviation_of_subsets=deviation)]


def cmmd_values(extractor: FeatureExtractor, measured: np.ndarray, reference: np.ndarray) -> list[MetricValue]:
    """The Gaussian kernel distance of normalised features, called CMMD over CLIP's."""
    how = "1000 x squared MMD of L2-normalised features with a Gaussian kernel of sigma 10, diagonals kept"
    return [_value(extractor, "RBF-MMD", cmmd(measured, reference), "lower", measured, reference, how, _DIAGONAL)]


def manifold_values(extractor: FeatureExtractor, measured: np.ndarray, reference: np.ndarray) -> list[MetricValue]:
    """Precision, recall, density and coverage."""
    enough = min(len(measured), len(reference)) > NEIGHBOURS
    scores = manifold_scores(measured, reference, neighbours=NEIGHBOURS) if enough else None
    how = f"balls to the {NEIGHBOURS}rd neighbour, Euclidean distances in float64"
    return [
        _value(extractor, name, getattr(scores, name, None), "higher", measured, reference, how, _NEIGHBOURS_OF_ITSELF)
        for name in ("precision", "recall", "density", "coverage")
    ]


def inception_score_values(extractor: FeatureExtractor, measured: np.ndarray, reference: np.ndarray) -> list[MetricValue]:
    """The Inception Score of the measured side under both published rules; nothing over other extractors."""
    if not isinstance(extractor, InceptionV3Compat):
        return []
    logits = extractor.logits(torch.from_numpy(measured)).numpy()
    mean, deviation = inception_score(logits, splits=SPLITS) if len(logits) >= SPLITS else (None, None)
    of_blocks = inception_score_of_blocks(logits, block=BLOCK)
    ten = f"{SPLITS} splits after RandomState(2020), logits without bias, as torch-fidelity"
    blocks = f"blocks of {BLOCK} consecutive pictures, logits without bias, as ADM: pictures must be shuffled over the classes"
    return [
        _value(
            extractor, "inception_score", mean, "higher", measured, None, ten, _SPREAD_OF_SPLITS, variant=".splits10", deviation_of_splits=deviation
        ),
        _value(extractor, "inception_score", of_blocks, "higher", measured, None, blocks, _SPREAD_OF_SPLITS, variant=".blocks5000"),
    ]


FEATURE_SETS: Mapping[str, Callable[[FeatureExtractor, np.ndarray, np.ndarray], list[MetricValue]]] = MappingProxyType(
    {"kernel_distance": kernel_values, "cmmd": cmmd_values, "manifold": manifold_values, "inception_score": inception_score_values}
)
"""By the names that suites use: (extractor, measured features (N, D), reference features (M, D)) -> numbers."""


def set_values(metrics: Sequence[str], extractor: FeatureExtractor, measured: np.ndarray, reference: np.ndarray) -> list[MetricValue]:
    """Those of these metrics that are computed over features of all pictures, in order."""
    return [value for metric in metrics if metric in FEATURE_SETS for value in FEATURE_SETS[metric](extractor, measured, reference)]


def _value(
    extractor: FeatureExtractor,
    metric: str,
    value: float | None,
    better: Literal["higher", "lower"],
    measured: np.ndarray,
    reference: np.ndarray | None,
    how: str,
    no_interval: str,
    *,
    variant: str = "",
    **details: JsonValue,
) -> MetricValue:
    against = {} if reference is None else {"reference_count": len(reference)}
    return MetricValue(
        name=extractor.title(metric) + variant,
        value=value,
        better=better,
        count=len(measured),
        no_interval=no_interval,
        protocol=f"{how}; features: {extractor.protocol}",
        details={**against, "dimensions": measured.shape[1], "extractor_identity": extractor.identity, **details},
    )
