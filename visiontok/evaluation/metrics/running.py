"""The metrics of a run: updated batch by batch, merged over processes, computed at the end. Both harnesses use it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.features import FeatureExtractor
from visiontok.evaluation.features.statistics import ReferenceStatistics
from visiontok.evaluation.metrics.accumulator import Accumulator
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, bootstrap_mean
from visiontok.evaluation.metrics.entries.probes import probe_columns
from visiontok.evaluation.metrics.failures import Failures
from visiontok.evaluation.metrics.feature_side import FeatureSide
from visiontok.evaluation.metrics.metric import (
    Aggregate,
    Computed,
    DerivedMetric,
    EvaluatedBatch,
    FeatureMetric,
    FeatureSides,
    Metric,
    ProbeMetric,
    SampleMetric,
    StreamMetric,
    Subject,
    Task,
)
from visiontok.evaluation.metrics.needs import suitable
from visiontok.evaluation.metrics.per_sample import PerSample
from visiontok.evaluation.metrics.probes import labeled
from visiontok.evaluation.metrics.value import MetricValue

_PROBES = "embeddings of probes"


@dataclass(eq=False)
class Outcome:
    """All numbers of a run, and what they were computed from.

    Attributes:
        values: in the order of the suite.
        omitted: metric -> why it gave none.
        failed: metric -> the error that ended its computation; the values of the others are unaffected.
        per_sample: label of a number -> (N,) float64, what each sample contributes to that mean; not finite where it is ignored.
        resampled: label of a number over sets of samples -> (R,) float64, the same number over resampled samples.
        code_counts: codebook -> (K,) int64.
    """

    values: list[MetricValue] = field(default_factory=list)
    omitted: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    per_sample: dict[str, np.ndarray] = field(default_factory=dict)
    resampled: dict[str, np.ndarray] = field(default_factory=dict)
    code_counts: dict[str, np.ndarray] = field(default_factory=dict)


class RunningMetrics:
    """Some metrics on one subject. Their whole state is in accumulators, so that every run can be sharded and resumed.

    Attributes:
        accumulators: all of them, by name.
        sample_accumulators, reference_accumulators: those that grow with the samples, and with what they are compared with.
        training_accumulators: those that grow with the training samples of probes.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        subject: Subject,
        *,
        widths: Mapping[str, int],
        statistics: Mapping[str, ReferenceStatistics] | None = None,
    ) -> None:
        """Start empty.

        Args:
            metrics: those that apply to the subject, see `select`.
            subject: what is evaluated.
            widths: extractor -> D.
            statistics: extractor -> the reference side as a file holds it, for references that are not read here.
        """
        self._metrics, self._subject, self._stored = tuple(metrics), subject, dict(statistics or {})
        self._failures = Failures()
        self._tables = {metric.name: PerSample() for metric in metrics if isinstance(metric, SampleMetric)}
        self._streams = {metric.name: metric.accumulators(subject) for metric in metrics if isinstance(metric, StreamMetric)}
        probing = any(isinstance(metric, ProbeMetric) for metric in metrics)
        self._tests = PerSample() if probing else None
        self._training = PerSample() if probing else None
        over_features = [metric for metric in metrics if isinstance(metric, FeatureMetric)]
        self._extractors = suitable(subject) if over_features else []
        keeps = {e.name: any(metric.keeps_features(subject, widths[e.name]) for metric in over_features) for e in self._extractors}
        self._samples = {e.name: FeatureSide(keeps_features=keeps[e.name]) for e in self._extractors}
        self._reference = {e.name: FeatureSide(keeps_features=keeps[e.name]) for e in self._extractors if e.name not in self._stored}
        self.sample_accumulators: dict[str, Accumulator] = {
            **self._tables,
            **{f"{metric}.{name}": part for metric, parts in self._streams.items() for name, part in parts.items()},
            **_parts("samples", self._samples),
            **({"probe": self._tests} if self._tests is not None else {}),
            "failures": self._failures,
        }
        self.reference_accumulators: dict[str, Accumulator] = {**_parts("reference", self._reference), "failures": self._failures}
        self.training_accumulators: dict[str, Accumulator] = (
            {"probe training": self._training, "failures": self._failures} if self._training is not None else {}
        )

    @property
    def accumulators(self) -> dict[str, Accumulator]:
        """All of them."""
        return {**self.sample_accumulators, **self.reference_accumulators, **self.training_accumulators}

    def update(self, batch: EvaluatedBatch) -> None:
        """Add a batch: samples with their reference, or either alone. A metric or an extractor that fails is ignored in all further batches.

        Raises:
            EvaluationError: if everything has failed.
        """
        for extractor in self._extractors:
            with self._unless_failed(_features_of(extractor)) as works:
                if works and batch.reference is not None and extractor.name in self._reference:
                    self._reference[extractor.name].update(batch.features(extractor, "reference"))
                if works and batch.samples is not None:
                    self._samples[extractor.name].update(batch.features(extractor, "samples"))
        if batch.samples is not None or batch.tokens is not None:  # no reference alone
            if batch.labels is not None:
                self._update_probes(self._tests, batch)
            for metric in self._metrics:
                if isinstance(metric, SampleMetric | StreamMetric):
                    with self._unless_failed(metric.name) as works:
                        if works:
                            self._update_metric(metric, batch)
        if all(self._has_failed(metric) for metric in self._metrics if not isinstance(metric, DerivedMetric)):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self._failures.compute().items())
            raise EvaluationError(f"no metric could be computed: {reasons}")

    def update_training(self, batch: EvaluatedBatch) -> None:
        """Add encoded training samples of probes."""
        if batch.labels is not None:
            self._update_probes(self._training, batch)

    @contextmanager
    def _unless_failed(self, name: str) -> Iterator[bool]:
        """Whether something has not failed so far; an error inside is kept."""
        with self._failures.kept_of(name):
            yield name not in self._failures

    def _update_metric(self, metric: SampleMetric | StreamMetric, batch: EvaluatedBatch) -> None:
        if isinstance(metric, StreamMetric):
            metric.compute(self._streams[metric.name], batch, self._subject)
        elif columns := metric.compute(batch, self._subject):
            self._tables[metric.name].update(batch.indices, columns)

    def _update_probes(self, table: PerSample | None, batch: EvaluatedBatch) -> None:
        with self._unless_failed(_PROBES) as works:
            if works and table is not None:
                table.update(batch.indices, probe_columns(batch, self._subject))

    def _has_failed(self, metric: Metric) -> bool:
        """Whether it can give nothing any more."""
        return bool(needed := self._parts_of(metric)) and all(name in self._failures for name in needed)

    def _parts_of(self, metric: Metric) -> list[str]:
        """The names by which the failures know what a metric is computed from."""
        if isinstance(metric, FeatureMetric):
            return [_features_of(extractor) for extractor in self._extractors]
        return [_PROBES] if isinstance(metric, ProbeMetric) else [metric.name]

    def outcome(self, bootstrap: BootstrapConfig) -> Outcome:
        """The numbers over everything seen. All samples are computed by now, so that a metric that fails takes none of the others with it."""
        outcome, failures = Outcome(), self._failures.compute()
        for metric in sorted(self._metrics, key=lambda metric: isinstance(metric, DerivedMetric)):
            found: list[tuple[MetricValue, Aggregate | None]] = []
            failed = Failures()
            if not self._has_failed(metric):
                with failed.kept_of(metric.name):
                    found = self._values(metric, outcome, bootstrap)
            reasons = [*(failures[name] for name in self._parts_of(metric) if name in failures), *failed.compute().values()]
            if reasons:
                outcome.failed[metric.name] = "; ".join(reasons)
            elif not found:
                outcome.omitted[metric.name] = metric.absent
            for value, aggregate in found:
                outcome.values.append(value)
                if aggregate is None:
                    continue
                for kept, column in ((outcome.per_sample, aggregate.per_sample), (outcome.resampled, aggregate.resampled)):
                    if column is not None:
                        kept[value.label] = column
                outcome.code_counts.update(aggregate.code_counts)
        return outcome

    def _values(self, metric: Metric, outcome: Outcome, bootstrap: BootstrapConfig) -> list[tuple[MetricValue, Aggregate | None]]:
        """What a metric gives, each with the aggregate that it was made from; derived values have none."""
        if isinstance(metric, DerivedMetric):
            derived = metric.derive(metric, Computed(outcome.values, outcome.per_sample), self._subject, bootstrap)
            return [(value, None) for value in derived]
        return [(metric_value(metric, aggregate, self._subject.task), aggregate) for aggregate in self._aggregated(metric, bootstrap)]

    def _aggregated(self, metric: Metric, bootstrap: BootstrapConfig) -> list[Aggregate]:
        if isinstance(metric, SampleMetric):
            table = self._tables[metric.name]
            return metric.aggregate(table.compute(), self._subject, bootstrap) if len(table) else []
        if isinstance(metric, StreamMetric):
            return metric.aggregate(self._streams[metric.name], self._subject, bootstrap)
        if isinstance(metric, ProbeMetric):
            return self._probed(metric, bootstrap)
        assert isinstance(metric, FeatureMetric)
        whole = [extractor for extractor in self._extractors if _features_of(extractor) not in self._failures]
        return [aggregate for extractor in whole for aggregate in metric.aggregate(self._sides(extractor.name), self._subject, bootstrap)]

    def _probed(self, metric: ProbeMetric, bootstrap: BootstrapConfig) -> list[Aggregate]:
        assert self._tests is not None
        assert self._training is not None
        if not len(self._tests) or not len(self._training):
            return []
        train, test = (labeled(table["embedding"], table["label"]) for table in (self._training.compute(), self._tests.compute()))
        (key,) = metric.values
        protocol = f"share of samples classified correctly; {metric.protocol(self._subject)}; {len(train.labels)} training samples"
        no_value = metric.undefined(train, self._subject)
        if no_value:
            return [Aggregate(key=key, value=None, no_value=no_value, count=len(test.labels), protocol=protocol)]
        column = metric.classify(train, test, self._subject).astype(np.float64)
        return [
            Aggregate(
                key=key,
                value=float(column.mean()),
                count=len(column),
                protocol=protocol,
                interval=bootstrap_mean(column, bootstrap),
                details={"dimensions": train.features.shape[1], "training_samples": len(train.labels)},
                per_sample=column,
            )
        ]

    def _sides(self, name: str) -> FeatureSides:
        extractor = next(extractor for extractor in self._extractors if extractor.name == name)
        return FeatureSides(extractor, self._samples[name], self._stored.get(name) or self._reference[name])


def _features_of(extractor: FeatureExtractor) -> str:
    return f"features of {extractor.name}"


def metric_value(metric: Metric, aggregate: Aggregate, task: Task) -> MetricValue:
    """An aggregate with what the metric's declaration says of it. An FID of reconstructions is titled
    rFID, one of generated samples gFID; likewise rFVD and gFVD."""
    declared = metric.values[aggregate.key]
    name, title = aggregate.key, declared.title
    if aggregate.extractor is not None:
        name = aggregate.extractor.title(aggregate.key)
        title = f"{declared.title}, {aggregate.extractor.name}"
        published = aggregate.extractor.published_names.get(aggregate.key.partition("[]")[0])
        if published is not None:
            title = f"{task[0]}{published} ({title})" if published in ("FID", "FVD") else f"{published} ({title})"
    if not np.isfinite(aggregate.value if aggregate.value is not None else 0.0):
        raise EvaluationError(f"{name} is {aggregate.value}: the samples or their features hold numbers that are too large, or not finite")
    return MetricValue(
        metric=metric.name,
        version=metric.version,
        name=name,
        title=title,
        part=aggregate.part,
        value=aggregate.value,
        no_value=aggregate.no_value,
        unit=declared.unit,
        better=declared.better,
        count=aggregate.count,
        interval=aggregate.interval,
        no_interval=aggregate.no_interval,
        protocol=aggregate.protocol,
        details=dict(aggregate.details),
    )


def _parts(side: str, sides: Mapping[str, FeatureSide]) -> dict[str, Accumulator]:
    parts: Iterable[tuple[str, Accumulator]] = (
        (f"features.{side}.{name}.{kind}", part) for name, each in sides.items() for kind, part in each.accumulators.items()
    )
    return dict(parts)
