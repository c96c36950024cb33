"""The Fréchet distance with its conditions: which extractor, which two sides, how many samples of each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.features.base import FeatureExtractor
from visiontok.evaluation.features.statistics import ReferenceStatistics, Statistics
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.feature_side import FeatureSide
from visiontok.evaluation.metrics.frechet import frechet_distance, frechet_distance_of_features
from visiontok.evaluation.metrics.frechet_bootstrap import centered_interval, resampled_distances, why_no_interval
from visiontok.evaluation.metrics.metric import Aggregate, FeatureMetric, FeatureSides, Subject, Value


def check_equal_counts(count: int, reference_count: int) -> None:
    """Raise an EvaluationError if the sides have different numbers of samples."""
    if count != reference_count:
        raise EvaluationError(
            f"{count} samples were given against a reference of {reference_count}: the Fréchet distance depends on N. "
            f"Take {min(count, reference_count)} of both, or allow unequal counts, and do not compare the value with others"
        )


def check_enough_samples(count: int, extractor: FeatureExtractor, width: int) -> None:
    """Raise an EvaluationError if there are no more samples, or windows of them, than features."""
    if count <= width:
        what = "windows" if extractor.reads_windows else "samples"
        raise EvaluationError(
            f"{count} {what} cannot estimate the covariance of the {width} features of {extractor.name}; "
            f"use more than {width} {what}, or set allow_few_samples and treat the value as a rough indication"
        )


def check_same_features(reference: ReferenceStatistics, extractor: FeatureExtractor, width: int) -> None:
    """Raise an EvaluationError if a statistics file was made over other features."""
    if reference.extractor not in (None, extractor.identity):
        raise EvaluationError(f"the reference was made by another extractor ({str(reference.extractor)[:12]}...) than {extractor.name}")
    if len(reference.mean) != width:
        raise EvaluationError(f"the reference has {len(reference.mean)} features, {extractor.name} has {width}")


def check_reconstruction_reference(reference: ReferenceStatistics, count: int) -> None:
    """Raise an EvaluationError unless a statistics file can be the reference of `count` reconstructions. Their reference is their originals, so N is
    the same and the split is never the training set.
    """
    if reference.split is None or reference.count is None:
        raise EvaluationError("the reference file does not contain its split and its N; give them to read_statistics if you know them")
    if reference.split == "train":
        raise EvaluationError(
            "reconstructions are compared with their originals, not with statistics of the training set, which give far too high values: "
            "make the reference from the validation originals"
        )
    check_equal_counts(count, reference.count)


def distance_of_sides(
    samples: Statistics,
    reference: Statistics | ReferenceStatistics,
    *,
    extractor: FeatureExtractor,
    reference_side: str = "",
    key: str = "FD[]",
    are_reconstructions: bool = False,
    allow_unequal_counts: bool = False,
    allow_few_samples: bool = False,
) -> Aggregate:
    """The Fréchet distance with its conditions, under the extractor's name for it.

    Args:
        samples, reference: statistics of the two sides, over `extractor`; the reference as it was computed here, or from `read_statistics`.
        extractor: that gave the features.
        reference_side: what a reference that was computed here is, in words.
        key: of the metric's values.
        are_reconstructions: whether the samples are reconstructions, whose reference is their originals. Generated samples differ in N
            from files of statistics by convention.
        allow_unequal_counts: compare sides of different N. The estimate falls with N, so such a value is not comparable with others.
        allow_few_samples: accept N <= D, where the covariance is singular and the estimate far too high.

    Raises:
        EvaluationError: for unequal counts or too few samples, unless allowed; for a file of another extractor's features; for reconstructions
            against training statistics, or a file of unknown split or N.
    """
    width = len(samples.mean)
    if isinstance(reference, ReferenceStatistics):
        check_same_features(reference, extractor, width)
        reference_side = f"statistics file {reference.sha256[:12]}, split {reference.split or 'unknown'}, N {reference.count or 'unknown'}"
        if are_reconstructions:
            check_reconstruction_reference(reference, samples.count)
    elif not allow_unequal_counts:
        check_equal_counts(samples.count, reference.count)
    fewest = samples.count if reference.count is None else min(samples.count, reference.count)
    if not allow_few_samples:
        check_enough_samples(fewest, extractor, width)
    rule = "unbiased" if extractor.unbiased else "biased (over N)"
    counted = "; N counts windows" if extractor.reads_windows else ""
    return Aggregate(
        key=key,
        extractor=extractor,
        value=frechet_distance(samples.mean, _covariance(samples, extractor), reference.mean, _covariance(reference, extractor)),
        count=samples.count,
        protocol=f"Fréchet distance in float64, {rule} covariances; features: {extractor.protocol}; reference: {reference_side}{counted}",
        details={
            "dimensions": width,
            "reference_count": reference.count,
            "extractor_identity": extractor.identity,
            "more_samples_than_dimensions": fewest > width,
        },
    )


def _covariance(side: Statistics | ReferenceStatistics, extractor: FeatureExtractor) -> np.ndarray:
    if extractor.unbiased or side.count is None:
        return side.covariance
    return side.covariance * ((side.count - 1) / side.count)


def _keeps(subject: Subject, width: int) -> bool:
    """For intervals, and where there are fewer samples than features, whose centered features are a root of their covariance."""
    return not why_no_interval(subject.count, width) or (subject.count is not None and subject.count <= width)


def _aggregate(sides: FeatureSides, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    extractor, samples = sides.extractor, sides.samples.statistics()
    found = distance_of_sides(
        samples,
        sides.reference if isinstance(sides.reference, ReferenceStatistics) else sides.reference.statistics(),
        extractor=extractor,
        reference_side=subject.reference,
        are_reconstructions=subject.task == "reconstruction",
        allow_unequal_counts=subject.allow_unequal_counts,
        allow_few_samples=subject.allow_few_samples,
    )
    width = len(samples.mean)
    reason = "windows of one sample are not independent" if extractor.reads_windows else why_no_interval(subject.count, width)
    if reason:
        features = [each.features() for each in (sides.samples, sides.reference) if isinstance(each, FeatureSide) and each.table is not None]
        if len(features) == 2 and samples.count <= width and extractor.unbiased:
            found = replace(found, value=frechet_distance_of_features(*features))  # exact for any rank
        return [replace(found, no_interval=reason)]
    assert found.value is not None
    other = sides.reference.features() if isinstance(sides.reference, FeatureSide) else sides.reference.statistics
    resampled = resampled_distances(sides.samples.features(), other, paired=subject.paired, bootstrap=bootstrap)
    return [replace(found, interval=centered_interval(found.value, resampled, samples=samples.count, bootstrap=bootstrap), resampled=resampled)]


FRECHET = FeatureMetric(
    name="frechet",
    values={"FD[]": Value("Fréchet distance", better="lower")},
    fewest_samples=2,
    needs=("decoder", "extractors"),
    tasks=("reconstruction", "generation"),
    keeps_features=_keeps,
    aggregate=_aggregate,
)
