"""The findings of a study, from its runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import kendalltau, spearmanr

from visiontok.evaluation import BootstrapConfig, Interval
from visiontok.evaluation.metrics.bootstrap import bootstrap_mean
from visiontok.studies.definition import ArmDifference, Comparison, Concordance, Correlation, Mean, Study, Trend
from visiontok.studies.result import Finding, RunValues

COEFFICIENTS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "Spearman's rank correlation": lambda x, y: float(spearmanr(x, y).statistic),
    "Kendall's rank correlation": lambda x, y: float(kendalltau(x, y).statistic),
}


def findings(study: Study, runs: Sequence[RunValues]) -> list[Finding]:
    """The result of every comparison on every data set."""
    return [
        finding
        for comparison in study.comparisons
        for name in study.data
        for finding in _compare(comparison, study, name, [run for run in runs if run.data == name])
    ]


def full_name(metric: str, runs: Sequence[RunValues]) -> str:
    """The metric's name with its extractor, as in the runs."""
    return next((label for run in runs if (label := run.label(metric)) is not None), metric)


def values_by_length(run: RunValues, metric: str, lengths: Sequence[int]) -> dict[int, float]:
    """Number of tokens kept -> value of the metric, where the run has one."""
    values = {length: run.value(f"{metric} at {length} tokens") for length in lengths}
    return {length: value for length, value in values.items() if value is not None}


def _compare(comparison: Comparison, study: Study, data: str, runs: Sequence[RunValues]) -> list[Finding]:
    if isinstance(comparison, ArmDifference):
        return [_difference(comparison, data, runs, study.bootstrap)]
    if isinstance(comparison, Trend):
        return [_trend(comparison, data, runs, study.data[data].reconstruction.lengths, study.bootstrap)]
    if isinstance(comparison, Mean):
        return [_mean(comparison, data, runs, study.bootstrap)]
    if isinstance(comparison, Concordance):
        return [_concordance(comparison, data, runs, study.bootstrap)]
    return _correlation(comparison, data, runs, study.bootstrap)


def _difference(comparison: ArmDifference, data: str, runs: Sequence[RunValues], bootstrap: BootstrapConfig) -> Finding:
    first, second = ({run.seed: run.value(comparison.metric) for run in runs if run.arm == arm} for arm in comparison.arms)
    pairs = {seed: (first[seed], second.get(seed)) for seed in first}
    gaps = {seed: later - earlier for seed, (earlier, later) in pairs.items() if earlier is not None and later is not None}
    metric = full_name(comparison.metric, runs)
    statistic = f"{metric}, {comparison.arms[1]} minus {comparison.arms[0]}"
    return _over_seeds(comparison.question, data, statistic, gaps, bootstrap, unit=_unit(metric, runs))


def _trend(comparison: Trend, data: str, runs: Sequence[RunValues], lengths: Sequence[int], bootstrap: BootstrapConfig) -> Finding:
    single = {}
    for run in runs:
        known = values_by_length(run, comparison.metric, lengths)
        points = np.asarray([*known.items()], dtype=np.float64).reshape(-1, 2)
        value = _defined(COEFFICIENTS["Spearman's rank correlation"], points) if run.arm == comparison.arm else None
        if value is not None:
            single[run.seed] = value
    statistic = f"Spearman's rank correlation of {comparison.metric} with the number of tokens, {comparison.arm}"
    return _over_seeds(comparison.question, data, statistic, single, bootstrap)


def _mean(comparison: Mean, data: str, runs: Sequence[RunValues], bootstrap: BootstrapConfig) -> Finding:
    values = {run.seed: run.value(comparison.metric) for run in runs if run.arm == comparison.arm}
    single = {seed: value for seed, value in values.items() if value is not None}
    metric = full_name(comparison.metric, runs)
    found = _over_seeds(comparison.question, data, f"{metric}, {comparison.arm}", single, bootstrap, unit=_unit(metric, runs))
    return found.replace(against=comparison.against)


def _concordance(comparison: Concordance, data: str, runs: Sequence[RunValues], bootstrap: BootstrapConfig) -> Finding:
    single = {}
    for seed in sorted({run.seed for run in runs}):
        shares = _pair_agreements(values_of_both([run for run in runs if run.seed == seed], comparison.metrics))
        if len(shares):
            single[seed] = float(shares.mean())
    first, second = (full_name(metric, runs) for metric in comparison.metrics)
    found = _over_seeds(comparison.question, data, f"share of pairs of arms in the same order by {first} and {second}", single, bootstrap)
    return found.replace(against=comparison.against)


def _pair_agreements(points: np.ndarray) -> np.ndarray:
    """Of every pair of points (n, 2): 1 where both columns order it alike, 0 where they do not, a half where one of them is a tie."""
    first, second = np.triu_indices(len(points), k=1)
    signs = np.sign(points[first] - points[second])
    return (1 + signs[:, 0] * signs[:, 1]) / 2


def values_of_both(runs: Sequence[RunValues], metrics: tuple[str, str]) -> np.ndarray:
    """(n, 2) float64: two metrics of the runs that have both."""
    rows = [tuple(run.value(metric) for metric in metrics) for run in runs]
    return np.asarray([row for row in rows if None not in row], dtype=np.float64).reshape(-1, 2)


def _unit(metric: str, runs: Sequence[RunValues]) -> str:
    return next((run.units[metric] for run in runs if metric in run.units), "")


def _over_seeds(question: str, data: str, statistic: str, single: dict[int, float], bootstrap: BootstrapConfig, *, unit: str = "") -> Finding:
    """The mean over seeds, with its interval."""
    values = np.asarray([*single.values()], dtype=np.float64)
    return Finding(
        question=question,
        data=data,
        statistic=statistic,
        value=float(values.mean()) if len(values) else None,
        unit=unit,
        interval=bootstrap_mean(values, bootstrap) if len(values) else None,
        count=len(values),
        over="seeds",
        single=single,
    )


def _correlation(comparison: Correlation, data: str, runs: Sequence[RunValues], bootstrap: BootstrapConfig) -> list[Finding]:
    """Over the runs that have both metrics."""
    points = values_of_both(runs, comparison.metrics)
    first, second = (full_name(metric, runs) for metric in comparison.metrics)
    found = []
    for name, coefficient in COEFFICIENTS.items():
        value = _defined(coefficient, points)
        found.append(
            Finding(
                question=comparison.question,
                data=data,
                statistic=f"{name} of {first} and {second}",
                value=value,
                interval=None if value is None else _resampled(coefficient, points, bootstrap),
                count=len(points),
                over="tokenizers",
            )
        )
    return found


def _defined(coefficient: Callable[[np.ndarray, np.ndarray], float], points: np.ndarray) -> float | None:
    """None where either side has fewer than two different values, so that there is no order."""
    if any(len(np.unique(column)) < 2 for column in points.T):
        return None
    return coefficient(*points.T)


def _resampled(coefficient: Callable[[np.ndarray, np.ndarray], float], points: np.ndarray, config: BootstrapConfig) -> Interval | None:
    """Percentile bootstrap over the points; resamples without an order are ignored. None where no resample has one."""
    draw = np.random.default_rng(config.seed)
    drawn = [_defined(coefficient, points[draw.integers(0, len(points), len(points))]) for _ in range(config.resamples)]
    ordered = [value for value in drawn if value is not None]
    if not ordered:
        return None
    tail = (1 - config.confidence) / 2
    low, high = np.quantile(ordered, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high), samples=len(points), bootstrap=config)
