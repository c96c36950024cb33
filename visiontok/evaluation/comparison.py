"""Two results side by side: which differences are more than chance, and what a second run of a measurement changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from visiontok.errors import EvaluationError
from visiontok.evaluation.bootstrap import BootstrapConfig, Interval, bootstrap_mean
from visiontok.evaluation.evidence import Evidence
from visiontok.evaluation.result import MetricValue, Result

Verdict = Literal["first better", "second better", "different", "no significant difference", "equal", "not judged"]

_NOT_PROTOCOL = ("name", "description", "batch_size", "metrics", "extractors", "lengths", "bootstrap")
"""What two suites may differ in: the values carry their own protocols, extractors and lengths."""


@dataclass(frozen=True)
class Difference:
    """One metric of two results.

    Attributes:
        first, second: the values.
        interval: of second minus first, over resampled images; None where there are no values per image.
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
    both falls out. Without the values of single images, two intervals that do not overlap count as a difference, which is cautious. Values
    without interval are not judged. Nothing is corrected for the number of comparisons.

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
    documents = [{key: value for key, value in result.measured().items() if key not in ("values", "evidence_sha256")} for result in (before, after)]
    rest += [Change(place, was, now, False) for place, was, now in _differing("", *documents)]
    return [*numbers, *rest]


def _difference(first: MetricValue, second: MetricValue, evidence: Sequence[Evidence | None], config: BootstrapConfig) -> Difference:
    if first.value is None or second.value is None:
        return Difference(first, second, None, "not judged", "not defined on one side")
    columns = [None if side is None else side.per_image.get(first.label) for side in evidence]
    if columns[0] is not None and columns[1] is not None:
        usable = np.isfinite(columns[0]) & np.isfinite(columns[1])
        gaps = columns[1][usable] - columns[0][usable]
        interval = bootstrap_mean(gaps, config)
        if interval is not None:
            how = f"paired bootstrap over {len(gaps)} images"
            return Difference(first, second, interval, _verdict(first, interval.low, interval.high, equal=not gaps.any()), how)
    if first.value == second.value:
        return Difference(first, second, None, "equal", "the same number")
    if first.interval is None or second.interval is None:
        return Difference(first, second, None, "not judged", "no interval")
    low, high = second.interval.low - first.interval.high, second.interval.high - first.interval.low
    return Difference(first, second, None, _verdict(first, low, high), "whether the two intervals overlap")


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
    suites = [{key: value for key, value in result.suite.items() if key not in _NOT_PROTOCOL} for result in (first, second)]
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


def _differing(place: str, before: Any, after: Any) -> list[tuple[str, Any, Any]]:
    """Leaves of two JSON documents that differ, with their place."""
    if isinstance(before, dict) and isinstance(after, dict):
        inside = [(f"{place}.{key}" if place else key, before.get(key), after.get(key)) for key in dict.fromkeys([*before, *after])]
        return [leaf for entry in inside for leaf in _differing(*entry)]
    return [] if before == after else [(place, before, after)]
