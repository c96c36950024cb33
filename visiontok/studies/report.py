"""The report of a study: one HTML page with findings, metrics and sample images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from visiontok.evaluation.metrics.registry import heading_of
from visiontok.evaluation.results.report import Folded, ImageGrid, ImageRow, LinePlot, PointPlot, Row, Section, Table, Text, write_report
from visiontok.evaluation.results.report.sections import ImageArray
from visiontok.evaluation.results.report.tables import titled
from visiontok.studies.definition import Correlation, QuantizedArm, Trend
from visiontok.studies.result import RunValues, StudyResult
from visiontok.studies.run import runs_of
from visiontok.studies.statistics import full_name, values_by_length
from visiontok.studies.tables import study_tables


def write_study(path: Path, result: StudyResult, *, root: Path) -> None:
    """Write the report atomically.

    Args:
        path: of the HTML file.
        result: of the study.
        root: folder of the runs, for sample images.
    """
    sections: list[Section] = [
        *_notes(result, "Warnings", lambda run: run.warnings),
        *_sample_images(result, root),
        Text("Setting", [result.study.setting]),
        *study_tables(result),
        *_plots(result),
        *_notes(result, "Omitted", lambda run: _in_words(run.omitted)),
        *_notes(result, "Failed", lambda run: _in_words(run.failed)),
        Folded("All runs", [_every_run(result, data) for data in result.study.data]),
    ]
    environment = result.runs[0].environment
    write_report(path, result.study.title, sections, summary=result.study.question, facts={**environment.versions, **environment.hardware})


def _notes(result: StudyResult, title: str, lines: Callable[[RunValues], Iterable[str]]) -> list[Text]:
    """What belongs to the values of the runs; what all seeds have in common is said once."""
    said: dict[str, list[int]] = {}
    for run in result.runs:
        for line in lines(run):
            said.setdefault(f"{run.data}, {run.arm}: {line}", []).append(run.seed)
    return titled(title, [f"{line} (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))})" for line, seeds in said.items()])


def _in_words(reasons: Mapping[str, str]) -> list[str]:
    return [f"{metric}: {reason}" for metric, reason in reasons.items()]


def _plots(result: StudyResult) -> Iterator[LinePlot | PointPlot]:
    """Correlations as points, one series per arm; trends over the number of tokens, one line per seed."""
    for comparison in result.study.comparisons:
        for data in result.study.data:
            runs = [run for run in result.runs if run.data == data]
            title = f"{comparison.question} {data}"
            if isinstance(comparison, Correlation):
                series = {arm: _points([run for run in runs if run.arm == arm], comparison.metrics) for arm in result.study.arms}
                yield PointPlot(title, series, *(heading_of(full_name(metric, runs)) for metric in comparison.metrics))
            elif isinstance(comparison, Trend):
                lengths = result.study.data[data].reconstruction.lengths
                trends = {f"seed {run.seed}": _over_lengths(run, comparison.metric, lengths) for run in runs if run.arm == comparison.arm}
                yield LinePlot(title, trends, "tokens", f"{heading_of(comparison.metric)}, {comparison.arm}")


def _points(runs: Sequence[RunValues], metrics: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Two metrics of the runs that have both."""
    points = [(run.value(metrics[0]), run.value(metrics[1])) for run in runs]
    first, second = np.asarray([point for point in points if None not in point], dtype=np.float64).reshape(-1, 2).T
    return first, second


def _over_lengths(run: RunValues, metric: str, lengths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of tokens at which a run has the metric, and its values."""
    known = values_by_length(run, metric, lengths)
    return np.asarray([*known], dtype=np.float64), np.asarray([*known.values()], dtype=np.float64)


def _sample_images(result: StudyResult, root: Path) -> Iterator[ImageGrid]:
    """The last sample images of the trainings with the first seed."""
    kinds = {"tokenizer": "Originals above reconstructions", "generator": "Generated images, class by class"}
    for kind, title in kinds.items():
        rows = []
        for run in runs_of(result.study, root):
            if run.seed != result.study.seeds[0] or isinstance(result.study.arms[run.arm], QuantizedArm):
                continue
            found = sorted((run.folder / kind / "samples").glob("step-*.png"))
            if found:
                rows.append(ImageRow(f"{run.data}, {run.arm}", [_read(found[-1])]))
        if rows:
            yield ImageGrid(title, rows, width=360, note=f"Sample images of training with seed {result.study.seeds[0]}.")


def _read(path: Path) -> ImageArray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _every_run(result: StudyResult, data: str) -> Table:
    runs = [run for run in result.runs if run.data == data]
    names = [full_name(metric, runs) for metric in result.study.shown]
    rows = []
    for run in runs:
        values = [run.values.get(name) for name in names]
        rows.append(Row((f"{run.arm}, seed {run.seed}", *("none" if value is None else f"{value:.5g}" for value in values), f"{run.seconds:.0f}")))
    return Table(data, ("run", *map(heading_of, names), "seconds"), rows)
