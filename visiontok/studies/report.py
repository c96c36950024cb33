"""A study's report: one HTML page with its findings, its numbers, and what its models do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from visiontok.evaluation.report import Folded, PictureRow, Pictures, PointPlot, Row, Section, Table, Text, write_report
from visiontok.evaluation.report.sections import Picture
from visiontok.studies.definition import Correlation, Quantized
from visiontok.studies.result import StudyResult
from visiontok.studies.run import runs_of
from visiontok.studies.statistics import full_name
from visiontok.studies.tables import study_tables


def write_study(path: Path, result: StudyResult, *, root: Path) -> None:
    """Write the report, whole or not at all.

    Args:
        path: of the HTML file.
        result: what it shows.
        root: folder of the runs, from which the pictures come.
    """
    sections: list[Section] = [
        Text("What was done", [result.study.setting]),
        *study_tables(result),
        *_plots(result),
        *_pictures(result, root),
        Folded("Every run", [_every_run(result, data) for data in result.study.data]),
    ]
    environment = result.runs[0].environment
    write_report(path, result.study.title, sections, summary=result.study.question, facts={**environment.versions, **environment.hardware})


def _plots(result: StudyResult) -> Iterator[PointPlot]:
    """Every correlation as points, one series per arm."""
    for comparison in result.study.comparisons:
        if not isinstance(comparison, Correlation):
            continue
        for data in result.study.data:
            runs = [run for run in result.runs if run.data == data]
            series = {}
            for arm in result.study.arms:
                points = [(run.value(comparison.metrics[0]), run.value(comparison.metrics[1])) for run in runs if run.arm == arm]
                series[arm] = tuple(np.asarray([point for point in points if None not in point], dtype=np.float64).reshape(-1, 2).T)
            labels = [full_name(metric, runs) for metric in comparison.metrics]
            yield PointPlot(f"{comparison.question} {data}", {arm: (xy[0], xy[1]) for arm, xy in series.items()}, *labels)


def _pictures(result: StudyResult, root: Path) -> Iterator[Pictures]:
    """The last sample pictures of the first seed's trainings."""
    kinds = {"tokenizer": "Originals above reconstructions", "generator": "Generated pictures, class after class"}
    for kind, words in kinds.items():
        rows = []
        for run in runs_of(result.study, root):
            if run.seed != result.study.seeds[0] or isinstance(result.study.arms[run.arm], Quantized):
                continue
            found = sorted((run.folder / kind / "pictures").glob("step-*.png"))
            if found:
                rows.append(PictureRow(f"{run.data}, {run.arm}", [_read(found[-1])]))
        if rows:
            yield Pictures(words, rows, width=360, note=f"Of the run with seed {result.study.seeds[0]}, as training drew them.")


def _read(path: Path) -> Picture:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _every_run(result: StudyResult, data: str) -> Table:
    runs = [run for run in result.runs if run.data == data]
    names = [full_name(metric, runs) for metric in result.study.shown]
    rows = []
    for run in runs:
        values = [run.values.get(name) for name in names]
        rows.append(Row((f"{run.arm}, seed {run.seed}", *("none" if value is None else f"{value:.5g}" for value in values), f"{run.seconds:.0f}")))
    return Table(data, ("run", *names, "seconds"), rows)
