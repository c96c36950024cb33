"""Two results side by side: which differences are statistically significant, and what a second run of an evaluation changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import t as student

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, Interval, bootstrap_mean
from visiontok.evaluation.metrics.frechet_bootstrap import centered_interval
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.result import Result

Conclusion = Literal["first better", "second better", "different", "no significant difference", "equal", "not tested"]

_NOT_PROTOCOL = ("name", "description", "batch_size", "metrics", "extractors", "lengths", "levels", "bootstrap")
"""What two suites may differ in: the values carry their own protocols, extractors, lengths and levels."""


@dataclass(frozen=True)
class Difference:
    """One metric of two results.

    Attributes:
        first, second: the values.
        interval: of second minus first, over resampled samples and over seeds; None if the contribution of each sample is unknown.
        conclusion: at the confidence of the bootstrap.
        how: by which test.
    """

    first: MetricValue
    second: MetricValue
    interval: Interval | None
    conclusion: Conclusion
    how: str


def compare_results(
    first: Result,
    second: Result,
    per_sample: tuple[PerSampleResults | None, PerSampleResults | None] = (None, None),
    *,
    bootstrap: BootstrapConfig | None = None,
) -> list[Difference]:
    """Every metric that both results hold.

    Means over samples are compared by a paired bootstrap: the same samples are resampled on both sides, so that what makes a sample hard for
    both cancels; Fréchet distances likewise, by the distances of resampled samples. Without per-sample results, two intervals that do not overlap
    count as a difference, which is cautious. Where several seeds were evaluated, their spread widens the interval of the difference (Welch's
    t), and tests alone where there is no other interval. Other values are not tested. Nothing is corrected for the number of comparisons.

    Args:
        first, second: of one protocol on the same samples.
        per_sample: of both, see `PerSampleResults.load_beside`.
        bootstrap: of the paired intervals; by default as in the first result.

    Raises:
        EvaluationError: if they were computed by different protocols, on different data, or against different references, listing what differs.
    """
    _check_comparable(first, second)
    others = {value.key: value for value in second.values}
    pairs = [(value, others[value.key]) for value in first.values if value.key in others]
    if not pairs:
        raise EvaluationError("these results have no metric in common")
    config = bootstrap or BootstrapConfig.parse(first.suite.get("bootstrap", {}))  # type: ignore[arg-type]
    return [_difference(mine, other, per_sample, config) for mine, other in pairs]


@dataclass(frozen=True)
class Change:
    """One entry of a result that a second run gave differently.

    Attributes:
        path: of the entry, for example "environment.versions.torch" or the label of a value.
        before, after: what it holds; None for nothing.
        is_value: whether it is one of the result's values.
    """

    path: str
    before: Any
    after: Any
    is_value: bool


def changes(before: Result, after: Result) -> list[Change]:
    """What differs between two runs of one evaluation, apart from times; values first."""
    sides = [{value.label: value for value in result.values} for result in (before, after)]
    numbers = []
    for label in dict.fromkeys([*sides[0], *sides[1]]):
        old, new = (side.get(label) for side in sides)
        if old != new:
            inner = _differing(label, old.to_dict() if old else None, new.to_dict() if new else None)
            numbers += [Change(path.removesuffix(".value"), was, now, True) for path, was, now in inner]
    rest: list[Change] = []
    documents = [
        {key: value for key, value in result.reproducible().items() if key not in ("values", "per_sample_sha256")} for result in (before, after)
    ]
    rest += [Change(path, was, now, False) for path, was, now in _differing("", *documents)]
    return [*numbers, *rest]


def _difference(first: MetricValue, second: MetricValue, per_sample: Sequence[PerSampleResults | None], config: BootstrapConfig) -> Difference:
    if first.value is None or second.value is None:
        return Difference(first, second, None, "not tested", "not defined on one side")
    found = _over_images(first, per_sample, config) or _over_resampled(first, second, per_sample)
    if found is not None:
        interval, how, equal = found
        interval, more = _widened_by_seeds(interval, first, second)
        fewest = _fewest(interval.bootstrap.confidence)
        if not equal and interval.samples < fewest:
            few = f"{interval.samples} samples are too few for a conclusion at {interval.bootstrap.confidence:.0%}; it takes at least {fewest}"
            return Difference(first, second, interval, "not tested", few)
        return Difference(first, second, interval, _conclusion(first, interval.low, interval.high, equal=equal), how + more)
    if first.value == second.value:
        return Difference(first, second, None, "equal", "the same number")
    gap, reach = second.value - first.value, _reach_of_seeds(first, second, config.confidence)
    if first.interval is not None and second.interval is not None:
        low, high = second.interval.low - first.interval.high, second.interval.high - first.interval.low
        low, high = gap - float(np.hypot(gap - low, reach)), gap + float(np.hypot(high - gap, reach))
        return Difference(first, second, None, _conclusion(first, low, high), "whether the two intervals overlap" + (_SEEDS if reach else ""))
    if reach:
        return Difference(first, second, None, _conclusion(first, gap - reach, gap + reach), "Welch's t over seeds, for these samples")
    return Difference(first, second, None, "not tested", first.no_interval or second.no_interval or "no interval")


def _fewest(confidence: float) -> int:
    """Of N samples, all on one side of zero happens by chance with probability 2^(1 - N): fewer cannot tell at this confidence."""
    return 1 + math.ceil(-math.log2(1 - confidence))


_SEEDS = ", widened by the spread over seeds"


def _over_images(value: MetricValue, per_sample: Sequence[PerSampleResults | None], config: BootstrapConfig) -> tuple[Interval, str, bool] | None:
    """The mean gap of single samples, resampled."""
    columns = [None if side is None else side.per_sample.get(value.label) for side in per_sample]
    if columns[0] is None or columns[1] is None:
        return None
    usable = np.isfinite(columns[0]) & np.isfinite(columns[1])
    gaps = columns[1][usable] - columns[0][usable]
    interval = bootstrap_mean(gaps, config)
    return None if interval is None else (interval, f"paired bootstrap over {len(gaps)} samples", not gaps.any())


def _over_resampled(first: MetricValue, second: MetricValue, per_sample: Sequence[PerSampleResults | None]) -> tuple[Interval, str, bool] | None:
    """The gap of two values over sets of samples, centered; both sides resampled the same samples."""
    columns = [None if side is None else side.resampled.get(first.label) for side in per_sample]
    if columns[0] is None or columns[1] is None or first.interval is None or second.interval is None:
        return None
    if first.interval.bootstrap != second.interval.bootstrap or first.value is None or second.value is None:
        return None
    gaps = columns[1] - columns[0]
    interval = centered_interval(second.value - first.value, gaps, samples=first.interval.samples, bootstrap=first.interval.bootstrap)
    return interval, f"paired bootstrap of the distance over {interval.samples} samples", not gaps.any()


def _widened_by_seeds(interval: Interval, first: MetricValue, second: MetricValue) -> tuple[Interval, str]:
    """Both sources of chance are independent: their half-widths add in quadrature."""
    reach = _reach_of_seeds(first, second, interval.bootstrap.confidence)
    if not reach or first.value is None or second.value is None:
        return interval, ""
    gap = second.value - first.value
    low, high = gap - float(np.hypot(gap - interval.low, reach)), gap + float(np.hypot(interval.high - gap, reach))
    return interval.model_copy(update={"low": low, "high": high}), _SEEDS


def _reach_of_seeds(first: MetricValue, second: MetricValue, confidence: float) -> float:
    """Half the width of Welch's interval for the difference of two means over seeds; a side without seeds has no such variance."""
    parts = [(value.seeds.deviation**2 / len(value.seeds.values), len(value.seeds.values)) for value in (first, second) if value.seeds is not None]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(part**2 / (count - 1) for part, count in parts if part)
    return float(student.ppf((1 + confidence) / 2, freedom) * np.sqrt(variance))


def _conclusion(value: MetricValue, low: float, high: float, *, equal: bool = False) -> Conclusion:
    """From the range of second minus first."""
    if equal:
        return "equal"
    if low <= 0 <= high:
        return "no significant difference"
    if value.better == "neither":
        return "different"
    return "second better" if (low > 0) == (value.better == "higher") else "first better"


def _check_comparable(first: Result, second: Result) -> None:
    differs = []
    if first.kind != second.kind:
        differs.append(f"kind: {first.kind} and {second.kind}")
    suites = [{key: value for key, value in result.suite.items() if key not in _NOT_PROTOCOL} for result in (first, second)]
    differs += [f"suite.{path}: {was} and {now}" for path, was, now in _differing("", *suites) if path != "size"]  # the samples give the size
    if first.data.samples_sha256 != second.data.samples_sha256:
        sides = [f"{data.in_words} from {data.identity}" for data in (first.data, second.data)]
        same = " (the same list, other values)" if sides[0] == sides[1] else ""
        differs.append(f"the samples that were evaluated: {sides[0]} and {sides[1]}{same}")
    for name in sorted(set(first.extractors) & set(second.extractors)):
        if first.extractors[name] != second.extractors[name]:
            differs.append(f"the extractor {name}: {first.extractors[name]} and {second.extractors[name]}")
    others = {value.key: value for value in second.values}
    for value in first.values:
        other = others.get(value.key)
        if other is not None and other.protocol != value.protocol:
            differs.append(f"the protocol of {value.label}: {value.protocol!r} and {other.protocol!r}")
        elif other is not None and other.version != value.version:
            differs.append(f"the version of the metric {value.metric}: {value.version} and {other.version}")
        elif other is not None and other.count != value.count:
            differs.append(f"N of {value.label}: {value.count} and {other.count}")
    if differs:
        raise EvaluationError(f"these results do not compare, they differ in {'; '.join(differs)}. Evaluate both on one suite, with the same data")


def _differing(path: str, before: Any, after: Any) -> list[tuple[str, Any, Any]]:
    """Leaves of two JSON documents that differ, with their path."""
    if isinstance(before, dict) and isinstance(after, dict):
        inside = [(f"{path}.{key}" if path else key, before.get(key), after.get(key)) for key in dict.fromkeys([*before, *after])]
        return [leaf for entry in inside for leaf in _differing(*entry)]
    return [] if before == after else [(path, before, after)]
