"""Tables of results, with what others published beside them and marked as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from visiontok.evaluation.metrics.value import MetricValue
from visiontok.evaluation.results.report.sections import Row, Table, Text
from visiontok.evaluation.results.result import Result
from visiontok.registry import PublishedFigure


def result_table(results: Sequence[Result], *, title: str, published: Mapping[str, Sequence[PublishedFigure]] | None = None) -> Table:
    """One line per metric, one column per result; each line can show its protocol.

    Args:
        results: of one suite.
        title: heading.
        published: name of a model -> figures of others, below, each with its source; never averaged or compared with the computed ones.
    """
    names = [result.title for result in results]
    keys = list(dict.fromkeys(value.key for result in results for value in result.values))
    rows = []
    for key in keys:
        values = [next((value for value in result.values if value.key == key), None) for result in results]
        known = next(value for value in values if value is not None)
        rows.append(Row([_heading(known), *("–" if value is None else value.text for value in values)], note=known.protocol, name=known.label))
    for name in dict.fromkeys(names):
        rows += [_published(figure, names.index(name), len(names)) for figure in (published or {}).get(name, ())]
    return Table(title, ["metric", *names], rows, note=_note(results))


def cut_table(result: Result, *, published: Sequence[PublishedFigure] = ()) -> Table:
    """One line per metric, one column per number of tokens or codebook levels.

    Args:
        result: of a suite with lengths or levels.
        published: figures of others, below, each with its source.
    """
    cuts = list(dict.fromkeys(value.cut for value in result.values))
    rows = []
    for name, part in dict.fromkeys((value.name, value.part) for value in result.values):
        values = {value.cut: value for value in result.values if (value.name, value.part) == (name, part)}
        known = next(iter(values.values()))
        cells = [values[cut].text if cut in values else "–" for cut in cuts]
        whole = known.replace(length=None, levels=None)
        rows.append(Row([whole.heading, *cells], note=known.protocol, name=whole.label))
    rows += [_published(figure, len(cuts) - 1, len(cuts)) for figure in published]
    columns = ["metric", *(cut.in_words for cut in cuts)]
    return Table(result.title, columns, rows, note=_note([result]))


def warnings(results: Sequence[Result]) -> list[Text]:
    """What is wrong with the models although the numbers are right; for the top of a page."""
    return titled("Warnings", [f"{result.title}: {warning}" for result in results for warning in result.warnings])


def missing_values(results: Sequence[Result]) -> list[Text]:
    """Why numbers are missing: metrics that do not apply, values that are not defined for these samples, metrics whose computation failed."""
    omitted = [f"{result.title}, {metric}: {reason}" for result in results for metric, reason in result.omitted.items()]
    undefined = [f"{result.title}, {value.label}: {value.no_value}" for result in results for value in result.values if value.no_value]
    failed = [f"{result.title}, {metric}: {error}" for result in results for metric, error in result.failed.items()]
    return [*titled("Omitted", omitted), *titled("Not defined", undefined), *titled("Failed", failed)]


def titled(title: str, lines: Sequence[str]) -> list[Text]:
    """A section of these lines, each once, if there are any."""
    return [Text(title, list(dict.fromkeys(lines)))] if lines else []


def _heading(value: MetricValue) -> str:
    return value.heading + value.cut.suffix


def _published(figure: PublishedFigure, column: int, columns: int) -> Row:
    cells = [f"{figure.value:g}" if each == column else "" for each in range(columns)]
    return Row([f"{figure.metric} on {figure.dataset}", *cells], published=figure.source)


def _note(results: Sequence[Result]) -> str:
    data = results[0].data
    intervals = [value.interval for result in results for value in result.values if value.interval is not None]
    note = f"{data.in_words} ({data.identity})."
    if intervals:
        drawn = intervals[0].bootstrap
        note += f" In brackets: {drawn.confidence:.0%} interval by percentile bootstrap over samples, {drawn.resamples} resamples."
    return note
