"""A Fréchet distance with its conditions: which extractor, which two sides, how many samples of each."""

from __future__ import annotations

import torch

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.features import FeatureExtractor
from visiontok.evaluation.features.statistics import ReferenceStatistics, Statistics
from visiontok.evaluation.metrics.frechet import frechet_distance
from visiontok.evaluation.metrics.value import MetricValue


def frechet_value(
    measured: Statistics,
    reference: Statistics,
    *,
    extractor: FeatureExtractor,
    reference_side: str,
    allow_unequal_counts: bool = False,
    allow_few_samples: bool = False,
) -> MetricValue:
    """The distance between two sides that were measured here, under the extractor's name for it.

    Args:
        measured, reference: statistics of the two sides, over `extractor`.
        extractor: that gave the features.
        reference_side: what the reference is, in words.
        allow_unequal_counts: compare sides of different N. The estimate falls with N, so such a value compares with nothing else.
        allow_few_samples: accept N <= D, where the covariance is singular and the estimate far too high.

    Raises:
        EvaluationError: for unequal counts or too few samples, unless allowed.
    """
    if not allow_unequal_counts:
        check_equal_counts(measured.count, reference.count)
    fewest = min(measured.count, reference.count)
    return _value(measured, reference, extractor, reference_side, fewest=fewest, reference_count=reference.count, allow_few_samples=allow_few_samples)


def frechet_to_statistics(
    measured: Statistics,
    reference: ReferenceStatistics,
    *,
    extractor: FeatureExtractor,
    reconstructions: bool,
    expected_count: int | None = None,
    allow_few_samples: bool = False,
) -> MetricValue:
    """The distance to a side that lies in a statistics file.

    Args:
        measured: statistics of the pictures, over `extractor`.
        reference: from `read_statistics`.
        extractor: that gave the measured features.
        reconstructions: whether the pictures are reconstructions. Their reference is the same pictures before, so its N is theirs and its
            split is never the training set. For generated pictures the sides differ in N by convention.
        expected_count: N of the figures that the value is to stand beside.
        allow_few_samples: accept N <= D, where the covariance is singular and the estimate far too high.

    Raises:
        EvaluationError: if the file's extractor is another one, reconstructions are held against training statistics or against a file of
            unknown split or count, or N is not the expected one.
    """
    check_same_features(reference, extractor, len(measured.mean))
    if reconstructions:
        if reference.split is None or reference.count is None:
            raise EvaluationError("the reference file does not say its split and its N; give them to read_statistics if you know them")
        if reference.split == "train":
            raise EvaluationError(
                "reconstructions are compared with the same pictures before, not with statistics of the training set, which reads far too high: "
                "make the reference from the validation originals"
            )
        expected_count = reference.count
    if expected_count is not None and measured.count != expected_count:
        raise EvaluationError(f"{measured.count} samples were given, {expected_count} are expected: the Fréchet distance depends on N")
    side = f"statistics file {reference.sha256[:12]}, split {reference.split or 'not said'}, N {reference.count or 'not said'}"
    fewest = measured.count if reference.count is None else min(measured.count, reference.count)
    return _value(measured, reference, extractor, side, fewest=fewest, reference_count=reference.count, allow_few_samples=allow_few_samples)


def feature_width(extractor: FeatureExtractor, size: int) -> int:
    """D, asked with one black picture of `size` pixels."""
    return extractor(torch.zeros(1, 3, size, size, dtype=torch.uint8)).shape[1]


def check_equal_counts(count: int, reference_count: int) -> None:
    """Raise an EvaluationError if the sides have different numbers of samples."""
    if count != reference_count:
        raise EvaluationError(
            f"{count} samples were given against a reference of {reference_count}: the Fréchet distance depends on N. "
            f"Take {min(count, reference_count)} of both, or allow unequal counts and compare the value with nothing else"
        )


def check_enough_samples(count: int, extractor: FeatureExtractor, width: int) -> None:
    """Raise an EvaluationError if there are no more samples than features."""
    if count <= width:
        raise EvaluationError(
            f"{count} samples cannot estimate the covariance of the {width} features of {extractor.name}; "
            f"use more than {width} samples, or set allow_few_samples and read the value as a rough indication"
        )


def check_same_features(reference: ReferenceStatistics, extractor: FeatureExtractor, width: int) -> None:
    """Raise an EvaluationError if a statistics file was made over other features."""
    if reference.extractor not in (None, extractor.identity):
        raise EvaluationError(f"the reference was made by another extractor ({reference.extractor[:12]}...) than {extractor.name}")
    if len(reference.mean) != width:
        raise EvaluationError(f"the reference has {len(reference.mean)} features, {extractor.name} has {width}")


def _value(
    measured: Statistics,
    reference: Statistics | ReferenceStatistics,
    extractor: FeatureExtractor,
    reference_side: str,
    *,
    fewest: int,
    reference_count: int | None,
    allow_few_samples: bool,
) -> MetricValue:
    width = len(measured.mean)
    if not allow_few_samples:
        check_enough_samples(fewest, extractor, width)
    return MetricValue(
        name=extractor.title("FD"),
        value=frechet_distance(measured.mean, measured.covariance, reference.mean, reference.covariance),
        better="lower",
        count=measured.count,
        protocol=f"Fréchet distance in float64, unbiased covariances; features: {extractor.protocol}; reference: {reference_side}",
        details={
            "dimensions": width,
            "reference_count": reference_count,
            "extractor_identity": extractor.identity,
            "more_samples_than_dimensions": fewest > width,
        },
    )
