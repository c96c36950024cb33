"""Metrics of the features of all samples at once, not of their moments: kernel distances, neighbors, the Inception Score."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import JsonValue

from visiontok.evaluation.features.inception import InceptionV3Compat
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.feature_side import FeatureSide
from visiontok.evaluation.metrics.inception_score import inception_score, inception_score_of_blocks
from visiontok.evaluation.metrics.manifold import manifold_scores
from visiontok.evaluation.metrics.metric import Aggregate, FeatureMetric, FeatureSides, Subject, Value
from visiontok.evaluation.metrics.mmd import cmmd, kernel_distance
from visiontok.evaluation.metrics.needs import suitable

SUBSETS, SUBSET_SIZE, SEED, NEIGHBORS, SPLITS, BLOCK = 100, 1000, 2020, 3, 10, 5000


def _keeps(subject: Subject, width: int) -> bool:
    return True


def _features(sides: FeatureSides) -> tuple[np.ndarray, np.ndarray]:
    assert isinstance(sides.reference, FeatureSide)
    return sides.samples.features(), sides.reference.features()


def _aggregate(
    key: str,
    value: float | None,
    sides: FeatureSides,
    count: int,
    how: str,
    *,
    no_interval: str,
    details: Mapping[str, JsonValue],
    no_value: str = "",
) -> Aggregate:
    extractor = sides.extractor
    return Aggregate(
        key=key,
        extractor=extractor,
        value=value,
        no_value="" if value is not None else no_value,
        count=count,
        no_interval=no_interval,
        protocol=f"{how}; features: {extractor.protocol}",
        details={"extractor_identity": extractor.identity, **details},
    )


def _kernel(sides: FeatureSides, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    samples, reference = _features(sides)
    size = min(SUBSET_SIZE, len(samples), len(reference))
    mean, deviation = kernel_distance(samples, reference, subsets=SUBSETS, subset_size=size, seed=SEED)
    how = f"mean over {SUBSETS} subsets of {size} drawn by RandomState({SEED}) of the unbiased squared MMD with the kernel (x.y / D + 1)^3"
    why = "the random subsets share samples, so their spread (deviation_of_subsets) is none"
    details = {"reference_count": len(reference), "dimensions": samples.shape[1], "deviation_of_subsets": deviation}
    return [_aggregate("MMD[]", mean, sides, len(samples), how, no_interval=why, details=details)]


def _gaussian(sides: FeatureSides, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    samples, reference = _features(sides)
    how = "1000 x squared MMD of L2-normalized features with a Gaussian kernel of sigma 10, diagonals kept"
    why = "the kernel's diagonal is kept, and samples that are drawn twice would add to it"
    details = {"reference_count": len(reference), "dimensions": samples.shape[1]}
    zero = "a sample has features that are all zero, which cannot be normalized"
    value = cmmd(samples, reference) if samples.any(axis=1).all() and reference.any(axis=1).all() else None
    return [_aggregate("RBF-MMD[]", value, sides, len(samples), how, no_interval=why, details=details, no_value=zero)]


def _manifold(sides: FeatureSides, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    samples, reference = _features(sides)
    enough = min(len(samples), len(reference)) > NEIGHBORS
    scores = manifold_scores(samples, reference, neighbors=NEIGHBORS) if enough else None
    how = f"balls to the {NEIGHBORS}rd neighbor, Euclidean distances in float64"
    why = "a sample that is drawn twice is its own nearest neighbor, so that resampling has no meaning here"
    few = f"{len(samples)} samples and {len(reference)} they are compared with have no {NEIGHBORS}rd neighbor each"
    details = {"reference_count": len(reference), "dimensions": samples.shape[1]}
    return [
        _aggregate(f"{name}[]", getattr(scores, name, None), sides, len(samples), how, no_interval=why, details=details, no_value=few)
        for name in ("precision", "recall", "density", "coverage")
    ]


def _inception(sides: FeatureSides, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    """The Inception Score of the samples under both published rules; nothing over other extractors."""
    if not isinstance(sides.extractor, InceptionV3Compat):
        return []
    samples = sides.samples.features()
    logits = sides.extractor.logits(torch.from_numpy(samples)).numpy()
    mean, deviation = inception_score(logits, splits=SPLITS) if len(logits) >= SPLITS else (None, None)
    ten = f"{SPLITS} splits after RandomState(2020), logits without bias, as torch-fidelity"
    blocks = f"blocks of {BLOCK} consecutive samples, logits without bias, as ADM: samples must be shuffled over the classes"
    why = "the spread of the splits (deviation_of_splits) is none, and the score of resampled images is biased"
    few = f"{len(samples)} samples do not make {SPLITS} splits"
    width: dict[str, JsonValue] = {"dimensions": samples.shape[1]}
    first = {**width, "deviation_of_splits": deviation}
    return [
        _aggregate("inception_score[].splits10", mean, sides, len(samples), ten, no_interval=why, details=first, no_value=few),
        _aggregate(
            "inception_score[].blocks5000",
            inception_score_of_blocks(logits, block=BLOCK),
            sides,
            len(samples),
            blocks,
            no_interval=why,
            details=width,
        ),
    ]


def _why_no_inception(subject: Subject) -> str | None:
    known = any(isinstance(extractor, InceptionV3Compat) for extractor in suitable(subject))
    return None if known else "none of the extractors is the Inception network"


_NEEDS = ("decoder", "extractors", "reference samples")

KERNEL_DISTANCE = FeatureMetric(
    name="kernel_distance",
    values={"MMD[]": Value("Kernel distance", better="lower")},
    fewest_samples=2,
    needs=_NEEDS,
    tasks=("reconstruction", "generation"),
    keeps_features=_keeps,
    aggregate=_kernel,
)
"""Called KID over Inception's features."""

CMMD = FeatureMetric(
    name="cmmd",
    values={"RBF-MMD[]": Value("Gaussian kernel distance", better="lower")},
    fewest_samples=2,
    needs=_NEEDS,
    tasks=("reconstruction", "generation"),
    keeps_features=_keeps,
    aggregate=_gaussian,
)
"""Called CMMD over CLIP's features."""

MANIFOLD = FeatureMetric(
    name="manifold",
    values={f"{name.lower()}[]": Value(name, better="higher") for name in ("Precision", "Recall", "Density", "Coverage")},
    fewest_samples=NEIGHBORS + 1,
    needs=_NEEDS,
    tasks=("reconstruction", "generation"),
    keeps_features=_keeps,
    aggregate=_manifold,
)

INCEPTION_SCORE = FeatureMetric(
    name="inception_score",
    values={
        "inception_score[].splits10": Value("Inception Score, 10 splits", better="higher"),
        "inception_score[].blocks5000": Value("Inception Score, blocks of 5000", better="higher"),
    },
    needs=("decoder", "extractors"),
    tasks=("reconstruction", "generation"),
    unavailable=_why_no_inception,
    keeps_features=_keeps,
    aggregate=_inception,
)
