"""A Fréchet distance with its conditions: which extractor, which two sides, how many samples of each."""

from __future__ import annotations

from visiontok.errors import EvaluationError
from visiontok.evaluation.features import FeatureExtractor
from visiontok.evaluation.metrics.frechet import frechet_distance
from visiontok.evaluation.metrics.moments import Statistics
from visiontok.evaluation.result import MetricValue


def frechet_value(
    measured: Statistics,
    reference: Statistics,
    *,
    extractor: FeatureExtractor,
    reference_side: str,
    allow_unequal_counts: bool = False,
    allow_few_samples: bool = False,
) -> MetricValue:
    """The distance as `FD[extractor]`; never FID, which is the name for one network's features.

    Args:
        measured, reference: statistics of the two sides, over `extractor`.
        extractor: that gave the features.
        reference_side: what the reference is, in words.
        allow_unequal_counts: compare sides of different N. The estimate falls with N, so such a value compares with nothing else.
        allow_few_samples: accept N <= D, where the covariance is singular and the estimate far too high.

    Raises:
        EvaluationError: for unequal counts or too few samples, unless allowed.
    """
    width = len(measured.mean)
    if measured.count != reference.count and not allow_unequal_counts:
        raise EvaluationError(
            f"{measured.count} samples were given against a reference of {reference.count}: the Fréchet distance depends on N. "
            f"Take {min(measured.count, reference.count)} of both, or allow unequal counts and compare the value with nothing else"
        )
    fewest = min(measured.count, reference.count)
    if fewest <= width and not allow_few_samples:
        raise EvaluationError(
            f"{fewest} samples cannot estimate the covariance of the {width} features of {extractor.name}; "
            f"use more than {width} samples, or set allow_few_samples and read the value as a rough indication"
        )
    return MetricValue(
        name=f"FD[{extractor.name}]",
        value=frechet_distance(measured.mean, measured.covariance, reference.mean, reference.covariance),
        better="lower",
        count=measured.count,
        protocol=f"Fréchet distance in float64, unbiased covariances; features: {extractor.protocol}; reference: {reference_side}",
        details={
            "dimensions": width,
            "reference_count": reference.count,
            "extractor_identity": extractor.identity,
            "more_samples_than_dimensions": fewest > width,
        },
    )
