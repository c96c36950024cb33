"""Two results side by side: which differences are more than chance, and what a second run of a measurement changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import t as student

from visiontok.base.config import Config
from visiontok.base.errors import EvaluationError
from visiontok.evaluation.generation.suite import GenerationSuite
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, Interval, bootstrap_mean
from visiontok.evaluation.metrics.frechet_bootstrap import centred_interval
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.evaluation.reconstruction.suite import Suite
from visiontok.evaluation.results.per_sample import Evidence
from visiontok.evaluation.results.result import Result

Verdict = Literal["first better", "second better", "different", "no significant difference", "equal", "not judged"]

_NOT_PROTOCOL = ("name", "description", "batch_size", "metrics", "extractors", "lengths", "bootstrap")
"""What two suites may differ in: the values carry their own protocols, extractors and lengths."""


@dataclass(frozen=True)
class Difference:
    """One metric of two results.

    Attributes:
        first, second: the values.
        interval: of second minus first, over resampled images and over seeds; None where nothing tells how images contribute.
        verdict: at the confidence of the bootstrap.
        how: what the verdict rests on.
    """

    first: MetricValue
    second: MetricValue
    interval: Interval | None
    verdict: Verdict
    how: str


def compare_results(
    first: Result, second: Result, evidence: tuple[Evidence | None, Evidence | None] = (None, None), *, bootstrap: BootstrapConfig | None = None
) -> list[Difference]:
    """Every metric that both results hold.

    Means over images are compared by a paired bootstrap: the same images are resampled on both sides, so that what makes an image hard for
    both falls out; Fréchet distances likewise, by the distances of resampled images. Without that evidence, two intervals that do not overlap
    count as a difference, which is cautious. Where several seeds were measured, their spread widens the interval of the difference (Welch's
    t), and judges alone where there is no other interval. Other values are not judged. Nothing is corrected for the number of comparisons.

    Args:
        first, second: of one protocol on the same pixels.
        evidence: of both, see `Evidence.load_beside`.
        bootstrap: of the paired intervals; by default as in the first result.

    Raises:
        EvaluationError: if they were measured by different protocols, on different data, or against different references, listing what differs.
    """
    _check_comparable(first, second)
    others = {value.place: value for value in second.values}
    pairs = [(value, others[value.place]) for value in first.values if value.place in others]
    if not pairs:
        raise EvaluationError("these results hold no metric in common")
    config = bootstrap or BootstrapConfig.parse(first.suite.get("bootstrap", {}))  # type: ignore[arg-type]
    return [_difference(mine, other, evidence, config) for mine, other in pairs]


@dataclass(frozen=True)
class Change:
    """One entry of a result that a second run gave differently.

    Attributes:
        place: where it stands, for example "environment.versions.torch" or the label of a value.
        before, after: what stands there; None for nothing.
        is_value: whether it is a number that was measured.
    """

    place: str
    before: Any
    after: Any
    is_value: bool


def changes(before: Result, after: Result) -> list[Change]:
    """What differs between two runs of one measurement, apart from times; measured numbers first."""
    sides = [{value.label: value for value in result.values} for result in (before, after)]
    numbers = []
    for label in dict.fromkeys([*sides[0], *sides[1]]):
        old, new = (side.get(label) for side in sides)
        if old != new:
            inner = _differing(label, old.to_dict() if old else None, new.to_dict() if new else None)
            numbers += [Change(place.removesuffix(".value"), was, now, True) for place, was, now in inner]
    rest: list[Change] = []
    results = [{**result.measured(), "suite": _whole_suite(result)} for result in (before, after)]
    documents = [{key: value for key, value in result.items() if key not in ("values", "evidence_sha256")} for result in results]
    rest += [Change(place, was, now, False) for place, was, now in _differing("", *documents)]
    return [*numbers, *rest]


def _difference(first: MetricValue, second: MetricValue, evidence: Sequence[Evidence | None], config: BootstrapConfig) -> Difference:
    if first.value is None or second.value is None:
        return Difference(first, second, None, "not judged", "not defined on one side")
    found = _over_images(first, evidence, config) or _over_resampled(first, second, evidence)
    if found is not None:
        interval, how, equal = found
        interval, more = _widened_by_seeds(interval, first, second)
        return Difference(first, second, interval, _verdict(first, interval.low, interval.high, equal=equal), how + more)
    if first.value == second.value:
        return Difference(first, second, None, "equal", "the same number")
    gap, reach = second.value - first.value, _reach_of_seeds(first, second, config.confidence)
    if first.interval is not None and second.interval is not None:
        low, high = second.interval.low - first.interval.high, second.interval.high - first.interval.low
        low, high = gap - float(np.hypot(gap - low, reach)), gap + float(np.hypot(high - gap, reach))
        return Difference(first, second, None, _verdict(first, low, high), "whether the two intervals overlap" + (_SEEDS if reach else ""))
    if reach:
        return Difference(first, second, None, _verdict(first, gap - reach, gap + reach), "Welch's t over seeds, for these images")
    return Difference(first, second, None, "not judged", first.no_interval or second.no_interval or "no interval")


_SEEDS = ", widened by the spread over seeds"


def _over_images(value: MetricValue, evidence: Sequence[Evidence | None], config: BootstrapConfig) -> tuple[Interval, str, bool] | None:
    """The mean gap of single images, resampled."""
    columns = [None if side is None else side.per_image.get(value.label) for side in evidence]
    if columns[0] is None or columns[1] is None:
        return None
    usable = np.isfinite(columns[0]) & np.isfinite(columns[1])
    gaps = columns[1][usable] - columns[0][usable]
    interval = bootstrap_mean(gaps, config)
    return None if interval is None else (interval, f"paired bootstrap over {len(gaps)} images", not gaps.any())


def _over_resampled(first: MetricValue, second: MetricValue, evidence: Sequence[Evidence | None]) -> tuple[Interval, str, bool] | None:
    """The gap of two values over sets of images, centred; both sides resampled the same images."""
    columns = [None if side is None else side.resampled.get(first.label) for side in evidence]
    if columns[0] is None or columns[1] is None or first.interval is None or second.interval is None:
        return None
    if first.interval.bootstrap != second.interval.bootstrap or first.value is None or second.value is None:
        return None
    gaps = columns[1] - columns[0]
    interval = centred_interval(second.value - first.value, gaps, samples=first.interval.samples, bootstrap=first.interval.bootstrap)
    return interval, f"paired bootstrap of the distance over {interval.samples} images", not gaps.any()


def _widened_by_seeds(interval: Interval, first: MetricValue, second: MetricValue) -> tuple[Interval, str]:
    """Both sources of chance are independent: their reaches add in quadrature."""
    reach = _reach_of_seeds(first, second, interval.bootstrap.confidence)
    if not reach or first.value is None or second.value is None:
        return interval, ""
    gap = second.value - first.value
    low, high = gap - float(np.hypot(gap - interval.low, reach)), gap + float(np.hypot(interval.high - gap, reach))
    return interval.model_copy(update={"low": low, "high": high}), _SEEDS


def _reach_of_seeds(first: MetricValue, second: MetricValue, confidence: float) -> float:
    """Half the width of Welch's interval for the difference of two means over seeds; a side without seeds draws nothing."""
    parts = [(value.seeds.deviation**2 / len(value.seeds.values), len(value.seeds.values)) for value in (first, second) if value.seeds is not None]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(part**2 / (count - 1) for part, count in parts)
    return float(student.ppf((1 + confidence) / 2, freedom) * np.sqrt(variance))


def _verdict(value: MetricValue, low: float, high: float, *, equal: bool = False) -> Verdict:
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
    suites = [{key: value for key, value in _whole_suite(result).items() if key not in _NOT_PROTOCOL} for result in (first, second)]
    differs += [f"suite.{place}: {was} and {now}" for place, was, now in _differing("", *suites) if place != "size"]  # the pixels tell the size
    if first.data.pixels_sha256 != second.data.pixels_sha256:
        sides = [f"{data.images} images of {data.size[0]} x {data.size[1]} from {data.identity}" for data in (first.data, second.data)]
        same = " (the same list, other pixels)" if sides[0] == sides[1] else ""
        differs.append(f"the pixels that were measured: {sides[0]} and {sides[1]}{same}")
    for name in sorted(set(first.extractors) & set(second.extractors)):
        if first.extractors[name] != second.extractors[name]:
            differs.append(f"the extractor {name}: {first.extractors[name]} and {second.extractors[name]}")
    others = {value.place: value for value in second.values}
    for value in first.values:
        other = others.get(value.place)
        if other is not None and other.protocol != value.protocol:
            differs.append(f"the protocol of {value.label}: {value.protocol!r} and {other.protocol!r}")
        elif other is not None and other.count != value.count:
            differs.append(f"N of {value.label}: {value.count} and {other.count}")
    if differs:
        raise EvaluationError(f"these results do not compare, they differ in {'; '.join(differs)}. Measure both on one suite, with the same data")


def _whole_suite(result: Result) -> dict[str, Any]:
    """Its suite, with what results older than the setting do not say at its default, by which they were measured."""
    kind: type[Config] = Suite if result.kind == "reconstruction" else GenerationSuite
    return {**kind.model_construct().model_dump(mode="json", warnings=False), **result.suite}


def _differing(place: str, before: Any, after: Any) -> list[tuple[str, Any, Any]]:
    """Leaves of two JSON documents that differ, with their place."""
    if isinstance(before, dict) and isinstance(after, dict):
        inside = [(f"{place}.{key}" if place else key, before.get(key), after.get(key)) for key in dict.fromkeys([*before, *after])]
        return [leaf for entry in inside for leaf in _differing(*entry)]
    return [] if before == after else [(place, before, after)]
