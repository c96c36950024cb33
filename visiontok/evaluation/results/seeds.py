"""One result out of several that differ in the seed of what was drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from visiontok.evaluation.metrics.bootstrap import Interval
from visiontok.evaluation.metrics.value import MetricValue, SeedSpread
from visiontok.evaluation.results.per_sample import Evidence
from visiontok.evaluation.results.result import Result


def across_seeds(measured: Mapping[int, tuple[Result, Evidence]]) -> tuple[Result, Evidence]:
    """Means over the seeds, with what each seed gave beside them.

    Args:
        measured: seed -> a result with its evidence, of one model on one suite.
    """
    results = [result for result, _ in measured.values()]
    first = results[0]
    evidence = mean_evidence([evidence for _, evidence in measured.values()])
    values = mean_values({seed: result.values for seed, (result, _) in measured.items()})
    changes = {
        "values": tuple(values),
        "evidence_sha256": evidence.sha256,
        "generated_skipped": tuple(skip for result in results for skip in result.generated_skipped),
        "run": first.run.model_copy(
            update={"finished": results[-1].run.finished, "seconds": round(sum(result.run.seconds for result in results), 3)}
        ),
    }
    if first.generated_sha256 is not None:
        changes["generated_sha256"] = hashlib.sha256("".join(str(result.generated_sha256) for result in results).encode()).hexdigest()
    if first.sampling is not None:
        changes["sampling"] = {**first.sampling, "seed": list(measured)}
    return first.model_copy(update=changes), evidence


def mean_values(measured: Mapping[int, Sequence[MetricValue]]) -> list[MetricValue]:
    """Means over the seeds, each with what every seed gave.

    Args:
        measured: seed -> the same values in the same order.
    """
    return [_across(values, list(measured)) for values in zip(*measured.values(), strict=True)]


def mean_evidence(found: Sequence[Evidence]) -> Evidence:
    """Of every picture the mean over the seeds; where other pictures could be read with other seeds, there is nothing by picture.

    Counts of ids are those of the first seed.
    """
    first = found[0]
    same = all(np.array_equal(evidence.numbers, first.numbers) for evidence in found)
    per_image = {name: np.mean([evidence.per_image[name] for evidence in found], axis=0) for name in first.per_image} if same else {}
    resampled = {name: np.mean([evidence.resampled[name] for evidence in found], axis=0) for name in first.resampled}
    return Evidence(first.numbers, per_image, first.code_counts, resampled)


def _across(values: Sequence[MetricValue], seeds: Sequence[int]) -> MetricValue:
    first, numbers = values[0], [value.value for value in values]
    known = [number for number in numbers if number is not None]
    details = {name: entry for name, entry in first.details.items() if all(value.details.get(name) == entry for value in values)}
    if len(known) < len(numbers):
        return first.model_copy(update={"value": None, "interval": None, "details": details})
    spread = SeedSpread(values={str(seed): number for seed, number in zip(seeds, known, strict=True)}, deviation=float(np.std(known, ddof=1)))
    return first.model_copy(update={"value": float(np.mean(known)), "interval": _mean_interval(values), "seeds": spread, "details": details})


def _mean_interval(values: Sequence[MetricValue]) -> Interval | None:
    intervals = [value.interval for value in values if value.interval is not None]
    if len(intervals) < len(values):
        return None
    low, high = (float(np.mean([getattr(interval, end) for interval in intervals])) for end in ("low", "high"))
    return intervals[0].model_copy(update={"low": low, "high": high})
