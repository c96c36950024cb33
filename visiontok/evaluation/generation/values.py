"""The numbers of a generation suite, from both sides once they were measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.features import Classifier, FeatureExtractor
from visiontok.evaluation.features.statistics import ReferenceStatistics, Statistics
from visiontok.evaluation.generation.side import SampleSide
from visiontok.evaluation.generation.suite import GenerationSuite
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.entries.classifier import agreement_value
from visiontok.evaluation.metrics.entries.feature_sets import set_values
from visiontok.evaluation.metrics.entries.frechet_sides import frechet_to_statistics, frechet_value
from visiontok.evaluation.metrics.frechet_bootstrap import centred_interval, resampled_distances, why_no_interval
from visiontok.evaluation.metrics.per_sample import PerImage
from visiontok.evaluation.metrics.value import MetricValue

Resampled = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class RealSide:
    """What samples are compared with: pictures, or statistics files.

    Attributes:
        pictures: None where there are statistics.
        statistics: by extractor; empty where there are pictures.
    """

    pictures: SampleSide | None
    statistics: Mapping[str, ReferenceStatistics]


def statistics_identity(files: Iterable[ReferenceStatistics]) -> str:
    """A fingerprint of statistics files."""
    return hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest()


def distances(
    suite: GenerationSuite, extractors: Sequence[FeatureExtractor], generated: SampleSide, real: RealSide, *, expected: int | None
) -> tuple[list[MetricValue], Resampled]:
    """Everything over features, by extractor, and the Fréchet distances of resampled pictures by their labels.

    Args:
        suite: what is asked for.
        extractors: whose features both sides hold.
        generated: the samples.
        real: what they are compared with.
        expected: the number of samples known beforehand, by which features were kept.

    Raises:
        EvaluationError: if a distance would not mean what its name says.
    """
    values: list[MetricValue] = []
    resampled: Resampled = {}
    for extractor in extractors:
        if "frechet" in suite.metrics:
            value = _frechet(suite, extractor, generated, real)
            reason = why_no_interval(expected, generated.moments[extractor.name].compute().mean.size)
            if not reason:
                resampled[value.label] = _resampled(extractor, generated, real, suite.bootstrap)
                assert value.value is not None
                interval = centred_interval(value.value, resampled[value.label], samples=value.count, bootstrap=suite.bootstrap)
                value = value.replace(interval=interval)
            values.append(value.replace(no_interval=reason))
        measured = generated.features(extractor.name) if suite.over_sets else np.zeros((0, 0))
        reference = real.pictures.features(extractor.name) if suite.over_sets and real.pictures else measured
        values += set_values(suite.over_sets, extractor, measured, reference)
    return values, resampled


def agreements(
    verdicts: PerImage, judges: Sequence[Classifier], count: int, bootstrap: BootstrapConfig
) -> tuple[list[MetricValue], dict[str, np.ndarray]]:
    """Share of samples that each judge gives the class that was asked for, also by class; and the same of every sample.

    Raises:
        EvaluationError: if only some samples have a class.
    """
    if not len(verdicts) or not judges:
        return [], {}
    table = verdicts.compute()
    if len(table["asked"]) != count:
        raise EvaluationError(f"{len(table['asked'])} of {count} samples have a class that was asked for; give one for all or for none")
    values, per_image = [], {}
    for judge in judges:
        agrees = table[judge.name] == table["asked"]
        value = agreement_value(f"agreement[{judge.name}].asked_class", agrees, bootstrap, f"{judge.name} sees the class that was asked for")
        by_class: dict[str, JsonValue] = {str(label): float(agrees[table["asked"] == label].mean()) for label in np.unique(table["asked"])}
        values.append(value.replace(details={"by_class": by_class}))
        per_image[value.label] = agrees.astype(np.float64)
    return values, per_image


def _frechet(suite: GenerationSuite, extractor: FeatureExtractor, generated: SampleSide, real: RealSide) -> MetricValue:
    measured, few = generated.moments[extractor.name].compute(), suite.allow_few_samples
    if real.pictures is None:
        stored = real.statistics[extractor.name]
        return frechet_to_statistics(measured, stored, extractor=extractor, reconstructions=False, allow_few_samples=few)
    assert suite.reference is not None
    return frechet_value(
        measured,
        real.pictures.moments[extractor.name].compute(),
        extractor=extractor,
        reference_side=f"pictures of {suite.reference.name}, drawn with seed {suite.seed} where there are more",
        allow_unequal_counts=suite.allow_unequal_counts,
        allow_few_samples=few,
    )


def _resampled(extractor: FeatureExtractor, generated: SampleSide, real: RealSide, bootstrap: BootstrapConfig) -> np.ndarray:
    measured = generated.features(extractor.name)
    if real.pictures is not None:
        return resampled_distances(measured, real.pictures.features(extractor.name), paired=False, bootstrap=bootstrap)
    stored = real.statistics[extractor.name]
    fixed = Statistics(stored.mean, stored.covariance, stored.count or 0)
    return resampled_distances(measured, fixed, paired=False, bootstrap=bootstrap)
