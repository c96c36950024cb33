"""The page of `visiontok compare`: results side by side, quality against rate, what differs more than by chance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from visiontok.evaluation.results.comparison import compare_results
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.report.curves import curves_of, rate_distortion_plots, zipf_plot
from visiontok.evaluation.results.report.page import write_report
from visiontok.evaluation.results.report.sections import Row, Section, Table, Text
from visiontok.evaluation.results.report.summaries import curve_summaries
from visiontok.evaluation.results.report.tables import not_defined_and_failed, result_table
from visiontok.evaluation.results.result import Result

_CODEBOOKS = 8
"""Whose use is drawn; more look alike."""


def write_comparison_report(path: Path, results: Sequence[Result], per_sample: Sequence[PerSampleResults | None]) -> None:
    """Write one self-contained page.

    Args:
        path: of the HTML file.
        results: two or more of one suite on the same samples; each is compared with the first.
        per_sample: of each.

    Raises:
        EvaluationError: if they do not compare.
    """
    differences = [_differences(results[0], other, (per_sample[0], mine)) for other, mine in zip(results[1:], per_sample[1:], strict=True)]
    sections: list[Section] = [result_table(results, title="Numbers"), *rate_distortion_plots(results)]
    summaries = curve_summaries(curves_of(results))
    if summaries is not None:
        sections.append(summaries)
    found = zip(results, per_sample, strict=True)
    counts = {f"{result.title}, {name}": column for result, mine in found if mine is not None for name, column in mine.code_counts.items()}
    zipf = zipf_plot(dict(list(counts.items())[:_CODEBOOKS]))
    if zipf is not None:
        sections.append(zipf)
    sections += differences
    omitted = [f"{result.title}, {metric}: {reason}" for result in results for metric, reason in result.omitted.items()]
    if omitted:
        sections.append(Text("Omitted", omitted))
    sections += not_defined_and_failed(results)
    first = results[0]
    title = f"{first.suite['name']}: {', '.join(result.title for result in results)}"
    write_report(path, title, sections, summary=str(first.suite.get("description", "")), facts=first.environment.versions)


def _differences(first: Result, second: Result, per_sample: tuple[PerSampleResults | None, PerSampleResults | None]) -> Table:
    rows = []
    for found in compare_results(first, second, per_sample):
        gap = f"{found.interval.low:+.4g} to {found.interval.high:+.4g}" if found.interval else "–"
        rows.append(Row([found.first.label, found.first.text, found.second.text, gap, found.conclusion], note=found.how))
    columns = ["metric", first.title, second.title, "second minus first", "conclusion"]
    return Table(f"{second.title} against {first.title}", columns, rows, note="Metrics are tested one by one; nothing is corrected for their number.")
