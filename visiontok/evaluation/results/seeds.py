"""One result out of several that differ in the seed of what was drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from visiontok.evaluation.metrics.bootstrap import Interval
from visiontok.evaluation.metrics.running import Outcome
from visiontok.evaluation.metrics.value import MetricValue, SeedSpread
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.result import Result


def mean_outcome(outcomes: Mapping[int, Outcome]) -> Outcome:
    """Means over seeds of the same samples, each value with what every seed gave; codes are counted with the first seed."""
    (first, *_) = outcomes.values()
    return Outcome(
        values=mean_values({seed: outcome.values for seed, outcome in outcomes.items()}),
        omitted=_first_of(outcome.omitted for outcome in outcomes.values()),
        failed=_first_of(outcome.failed for outcome in outcomes.values()),
        per_sample=_mean_columns([outcome.per_sample for outcome in outcomes.values()]),
        resampled=_mean_columns([outcome.resampled for outcome in outcomes.values()]),
        code_counts=first.code_counts,
    )


def across_seeds(runs: Mapping[int, tuple[Result, PerSampleResults]]) -> tuple[Result, PerSampleResults]:
    """Means over sets of generated samples, with what each seed gave beside them.

    If the samples that could be read differ between seeds, there are no per-sample results.

    Args:
        runs: seed -> its result, of one model on one suite.
    """
    results, found = [result for result, _ in runs.values()], [per_sample for _, per_sample in runs.values()]
    first, indices = results[0], found[0].indices
    same = all(np.array_equal(other.indices, indices) for other in found)
    columns = _mean_columns([other.per_sample for other in found]) if same else {}
    per_sample = PerSampleResults(indices, found[0].keys, columns, found[0].code_counts, _mean_columns([other.resampled for other in found]))
    changes = {
        "values": tuple(mean_values({seed: result.values for seed, (result, _) in runs.items()})),
        "omitted": _first_of(result.omitted for result in results),
        "failed": _first_of(result.failed for result in results),
        "per_sample_sha256": per_sample.sha256,
        "generated_skipped": tuple(skip for result in results for skip in result.generated_skipped),
        "run": first.run.model_copy(
            update={"finished": results[-1].run.finished, "seconds": round(sum(result.run.seconds for result in results), 3)}
        ),
    }
    if first.generated_sha256 is not None:
        changes["generated_sha256"] = hashlib.sha256("".join(str(result.generated_sha256) for result in results).encode()).hexdigest()
    if first.sampling is not None:
        changes["sampling"] = {**first.sampling, "seed": list(runs)}
    return first.model_copy(update=changes), per_sample


def mean_values(by_seed: Mapping[int, Sequence[MetricValue]]) -> list[MetricValue]:
    """Means over the seeds, each with what every seed gave; a value that some seed does not have is not defined.

    Args:
        by_seed: seed -> its values.
    """
    tables = {seed: {value.key: value for value in values} for seed, values in by_seed.items()}
    keys = dict.fromkeys(key for table in tables.values() for key in table)
    return [_across([table.get(key) for table in tables.values()], list(by_seed)) for key in keys]


def _first_of(reasons: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Metric -> its first reason among the seeds."""
    found: dict[str, str] = {}
    for each in reasons:
        found = {**each, **found}
    return found


def _mean_columns(found: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Of what every seed has."""
    common = [label for label in found[0] if all(label in columns for columns in found)]
    return {label: np.mean([columns[label] for columns in found], axis=0) for label in common}


def _across(by_seed: Sequence[MetricValue | None], seeds: Sequence[int]) -> MetricValue:
    values = [value for value in by_seed if value is not None]
    first, numbers = values[0], [None if value is None else value.value for value in by_seed]
    known = [number for number in numbers if number is not None]
    details = {name: entry for name, entry in first.details.items() if all(value.details.get(name) == entry for value in values)}
    if len(known) < len(numbers):
        why = f"it has a value with {len(known)} of {len(seeds)} seeds"
        return first.model_copy(update={"value": None, "no_value": why, "interval": None, "details": details})
    spread = SeedSpread(values={str(seed): number for seed, number in zip(seeds, known, strict=True)}, deviation=float(np.std(known, ddof=1)))
    return first.model_copy(update={"value": float(np.mean(known)), "interval": _mean_interval(values), "seeds": spread, "details": details})


def _mean_interval(values: Sequence[MetricValue]) -> Interval | None:
    intervals = [value.interval for value in values if value.interval is not None]
    if len(intervals) < len(values):
        return None
    low, high = (float(np.mean([getattr(interval, end) for interval in intervals])) for end in ("low", "high"))
    return intervals[0].model_copy(update={"low": low, "high": high})
