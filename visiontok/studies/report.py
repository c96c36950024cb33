"""The report of a study: one HTML page with findings, metrics and sample images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from visiontok.evaluation.results.report import ClipGrid, Folded, ImageGrid, ImageRow, LinePlot, PointPlot, Row, Section, Table, Text, write_report
from visiontok.evaluation.results.report.sounds import sound_gallery
from visiontok.evaluation.results.report.tables import titled
from visiontok.studies.definition import Correlation, Trend
from visiontok.studies.result import RunValues, StudyResult
from visiontok.studies.run import runs_of
from visiontok.studies.samples import kept_samples, read_image_array
from visiontok.studies.statistics import full_name, values_by_length, values_of_both
from visiontok.studies.tables import heading, study_tables


def write_study(path: Path, result: StudyResult, *, root: Path) -> None:
    """Write the report atomically.

    Args:
        path: of the HTML file.
        result: of the study.
        root: folder of the runs, for sample images.
    """
    sections: list[Section] = [
        *_notes(result, "Warnings", lambda run: run.warnings),
        *_samples(result, root),
        Text("Setting", [result.study.setting]),
        *([Text("Conclusion", [result.study.conclusion])] if result.study.conclusion else []),
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
                of_arms = {arm: values_of_both([run for run in runs if run.arm == arm], comparison.metrics) for arm in result.study.arms}
                series = {arm: (found[:, 0], found[:, 1]) for arm, found in of_arms.items() if len(found)}
                yield PointPlot(title, series, *(heading(full_name(metric, runs)) for metric in comparison.metrics))
            elif isinstance(comparison, Trend):
                lengths = result.study.data[data].reconstruction.lengths
                trends = {f"seed {run.seed}": _over_lengths(run, comparison.metric, lengths) for run in runs if run.arm == comparison.arm}
                yield LinePlot(title, trends, "tokens", f"{heading(comparison.metric)}, {comparison.arm}")


def _over_lengths(run: RunValues, metric: str, lengths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of tokens at which a run has the metric, and its values."""
    known = values_by_length(run, metric, lengths)
    return np.asarray([*known], dtype=np.float64), np.asarray([*known.values()], dtype=np.float64)


def _samples(result: StudyResult, root: Path) -> Iterator[Section]:
    """Of the runs with the first seed: the last sample images of the tokenizers' training, and the first samples of the generators."""
    first = result.study.seeds[0]
    runs = [run for run in runs_of(result.study, root) if run.seed == first]
    note = f"With seed {first}."
    trained = [(run, sorted(run.folder.glob("tokenizer/samples/step-*.png"))) for run in runs]
    reconstructed = [ImageRow(f"{run.data}, {run.arm}", [read_image_array(files[-1])]) for run, files in trained if files]
    if reconstructed:
        yield ImageGrid("Originals above reconstructions", reconstructed, width=360, note=note)
    kept = [(run, kept_samples(run.folder)) for run in runs]
    images = [ImageRow(f"{run.data}, {run.arm}", [samples.images]) for run, samples in kept if samples.images is not None]
    if images:
        yield ImageGrid("Generated images, class by class", images, width=360, note=note)
    for run, samples in kept:
        title = f"Generated by {run.arm}, {run.data}"
        if samples.animation is not None:
            yield ClipGrid(title, samples.animation, ["class by class"], (), animation_width=720, note=note)
        elif samples.sounds:
            sounds = {str(number): torch.from_numpy(sound.samples) for number, sound in enumerate(samples.sounds, 1)}
            yield Folded(title, [sound_gallery("", sounds, rate=samples.sounds[0].rate)])


def _every_run(result: StudyResult, data: str) -> Table:
    runs = [run for run in result.runs if run.data == data]
    names = [full_name(metric, runs) for metric in result.study.shown]
    rows = []
    for run in runs:
        values = [run.values.get(name) for name in names]
        rows.append(Row((f"{run.arm}, seed {run.seed}", *("none" if value is None else f"{value:.5g}" for value in values), f"{run.seconds:.0f}")))
    return Table(data, ("run", *map(heading, names), "seconds"), rows)
