"""The results of a study as tables, for its report and for the page of all studies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from visiontok.evaluation.metrics.registry import heading_of
from visiontok.evaluation.results.report import Row, Table
from visiontok.studies.definition import GENERATED
from visiontok.studies.result import Finding, RunValues, StudyResult
from visiontok.studies.statistics import full_name


def study_tables(result: StudyResult) -> Iterator[Table]:
    """The findings, and the mean of every arm on every data set."""
    confidence = f"{result.study.bootstrap.confidence:.0%}"
    rows = [Row((found.question, found.data, shown(found), found.reading, found.statistic, runs_of(found))) for found in result.findings]
    note = f"In brackets: {confidence} bootstrap intervals over the units of the last column, without correction for multiple comparisons."
    yield Table("Findings", ("question", "data", "value", "reading", "statistic", "over"), rows, note=note)
    for data in result.study.data:
        yield _means(result, data, [run for run in result.runs if run.data == data])


def heading(name: str) -> str:
    """The name of a value as a reader knows it, with "generated" in front for metrics of generated samples."""
    metric = name.removeprefix(GENERATED)
    return name.removesuffix(metric) + heading_of(metric)


def shown(finding: Finding) -> str:
    """The value with its unit and interval."""
    if finding.value is None:
        return "not defined"
    unit = f" {finding.unit}" if finding.unit else ""
    interval = f" [{finding.interval.low:+.3g}, {finding.interval.high:+.3g}]" if finding.interval else ""
    return f"{finding.value:+.3g}{unit}{interval}"


def runs_of(finding: Finding) -> str:
    """The number of resampled units, with their name."""
    return f"{finding.count} {finding.over if finding.count != 1 else finding.over.removesuffix('s')}"


def _means(result: StudyResult, data: str, runs: list[RunValues]) -> Table:
    names = [name for metric in result.study.shown for name in [full_name(metric, runs)] if any(name in run.values for run in runs)]
    rows = []
    for arm in result.study.arms:
        mine = [run for run in runs if run.arm == arm]
        rows.append(Row((arm, *(_mean([run.values.get(name) for run in mine]) for name in names))))
    columns = ("arm", *(known if (known := heading(name)) == name else f"{known}, {name.partition(' at ')[0]}" for name in names))
    seeds = len({run.seed for run in runs})
    note = f"Mean and standard deviation over {seeds} seeds." if seeds > 1 else "A single seed."
    return Table(data, columns, rows, note=note)


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    if len(set(known)) == 1 and known[0] >= 1000 and known[0].is_integer():
        return f"{known[0]:,.0f}"  # a count that no seed changes
    spread = f" ± {np.std(known, ddof=1):.2g}" if len(known) > 1 else ""
    return f"{np.mean(known):.4g}{spread}"
