"""The page of `visiontok compare`: results side by side, quality against rate, which differences are significant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from visiontok.evaluation.results.comparison import compare_results
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.report.curves import curves_of, distinct_titles, rate_distortion_plots, rate_table, zipf_plot
from visiontok.evaluation.results.report.page import write_report
from visiontok.evaluation.results.report.sections import Row, Section, Table
from visiontok.evaluation.results.report.summaries import curve_summaries
from visiontok.evaluation.results.report.tables import missing_values, result_table, warnings
from visiontok.evaluation.results.result import Result

_CODEBOOKS = 8
"""The most codebooks whose usage is plotted."""


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
    plots: list[Section] = [*rate_distortion_plots(results)]
    table = None if plots else rate_table(results)
    sections: list[Section] = [*warnings(results), *([table] if table else []), result_table(results, title="Numbers"), *plots]
    summaries = curve_summaries(curves_of(results))
    if summaries is not None:
        sections.append(summaries)
    found = zip(distinct_titles(results), per_sample, strict=True)
    counts = {f"{title}, {name}": column for title, mine in found if mine is not None for name, column in mine.code_counts.items()}
    zipf = zipf_plot(dict(list(counts.items())[:_CODEBOOKS]))
    if zipf is not None:
        sections.append(zipf)
    sections += differences
    sections += missing_values(results)
    first = results[0]
    title = f"{first.suite['name']}: {', '.join(result.title for result in results)}"
    write_report(path, title, sections, summary=str(first.suite.get("description", "")), facts=first.environment.versions)


def _differences(first: Result, second: Result, per_sample: tuple[PerSampleResults | None, PerSampleResults | None]) -> Table:
    rows = []
    for found in compare_results(first, second, per_sample):
        gap = f"{found.interval.low:+.4g} to {found.interval.high:+.4g}" if found.interval else "–"
        cells = [found.first.heading, found.first.text, found.second.text, gap, found.conclusion]
        rows.append(Row(cells, note=found.how, name=found.first.label))
    columns = ["metric", first.title, second.title, "second minus first", "conclusion"]
    return Table(f"{second.title} against {first.title}", columns, rows, note="Metrics are tested one by one; nothing is corrected for their number.")
