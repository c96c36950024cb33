"""The page of a run: the numbers of some models, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visiontok import registry
from visiontok.evaluation.metrics.value import Cut
from visiontok.evaluation.reconstruction.examples import Example, Examples
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.report.curves import rate_distortion_plots, usage_histogram, zipf_plot
from visiontok.evaluation.results.report.images import difference_image, signal_image, token_map
from visiontok.evaluation.results.report.page import write_report
from visiontok.evaluation.results.report.sections import BarPlot, ClipGrid, Folded, ImageGrid, ImageRow, LinePlot, Section, SoundGrid, Text
from visiontok.evaluation.results.report.side_by_side import seconds_shown, side_by_side
from visiontok.evaluation.results.report.tables import cut_table, missing_values, result_table, warnings
from visiontok.evaluation.results.result import Result
from visiontok.signals import SignalSpec

_HISTOGRAMS = 8
"""The most codebooks of one model that are plotted."""


@dataclass(frozen=True, eq=False)
class ReportEntry:
    """One model in a run.

    Attributes:
        result: its numbers.
        per_sample: what they were computed from.
        examples: reconstructions to look at.
    """

    result: Result
    per_sample: PerSampleResults
    examples: Examples


def write_run_report(path: Path, entries: Sequence[ReportEntry]) -> None:
    """Write one self-contained page. Models that were evaluated on different samples get tables and plots of their own.

    Args:
        path: of the HTML file.
        entries: of one suite, at least one.
    """
    sections: list[Section] = [*warnings([entry.result for entry in entries])]
    sections += [section for entry in entries if entry.examples.samples for section in _reconstructions(entry)]
    for samples in dict.fromkeys(entry.result.data.samples_sha256 for entry in entries):
        sections += _together([entry for entry in entries if entry.result.data.samples_sha256 == samples])
    for entry in entries:
        sections += _codebooks(entry)
    sections += _details(entries)
    first = entries[0].result
    title = f"{first.suite['name']}: {', '.join(entry.result.title for entry in entries)}"
    facts = {**first.environment.versions, **first.environment.hardware, "evaluated": f"{first.run.finished}, in {first.run.seconds:.0f} s"}
    write_report(path, title, sections, summary=str(first.suite.get("description", "")), facts=facts)


def _together(entries: Sequence[ReportEntry]) -> list[Section]:
    results = [entry.result for entry in entries]
    published = {result.title: _published(result) for result in results}
    sections: list[Section] = []
    if results[0].suite.get("lengths") or results[0].suite.get("levels"):
        sections += [cut_table(result, published=published[result.title]) for result in results]
    else:
        sections.append(result_table(results, title="Numbers", published=published))
    sections += rate_distortion_plots(results)
    counts = {f"{entry.result.title}, {name}": column for entry in entries for name, column in entry.per_sample.code_counts.items()}
    zipf = zipf_plot(dict(list(counts.items())[:_HISTOGRAMS]))
    return [*sections, zipf] if zipf else sections


def _published(result: Result) -> Sequence[registry.PublishedFigure]:
    known = registry.checkpoints()
    return known[result.title][1].published if result.title in known else ()


def _codebooks(entry: ReportEntry) -> list[Section]:
    name = entry.result.title
    plots: list[LinePlot | BarPlot] = [
        usage_histogram(f"{name}, {codebook}", counts) for codebook, counts in list(entry.per_sample.code_counts.items())[:_HISTOGRAMS]
    ]
    return [*plots[:1], Folded(f"Further codebooks of {name}", plots[1:])] if len(plots) > 1 else [*plots]


def _reconstructions(entry: ReportEntry) -> list[Section]:
    """Images in one grid, below each original its reconstructions; clips and sounds one by one, sounds folded since each of them is as high as a
    grid."""
    samples, spec, ranking = entry.examples.samples, entry.examples.spec, entry.examples.ranking
    chosen = "The first samples." if ranking is None else f"The worst, the median and the best samples by {ranking.title}."
    title = f"Reconstructions by {entry.result.title}"
    if spec.modality not in ("audio", "video"):
        return [_images(title, samples, [_caption(entry.examples, example) for example in samples], spec, chosen)]
    seconds = seconds_shown(spec, sounds=sum(1 + len(example.reconstructions) for example in samples))
    single: list[Text | ImageGrid | ClipGrid | SoundGrid] = []
    for example in samples:
        decoded = {_label(cut): signal for cut, signal in example.reconstructions.items()}
        caption = _caption(entry.examples, example)
        section = side_by_side(caption, example.original, decoded, spec=spec, tokens=example.tokens, seconds=seconds)
        single += [] if section is None else [section]
    if spec.modality == "video":
        return [Text(title, [chosen]), *single]
    return [Folded(title, [Text("", [chosen]), *single])]


def _images(title: str, samples: Sequence[Example], captions: Sequence[str], spec: SignalSpec, note: str) -> ImageGrid:
    originals = [image for example in samples if (image := signal_image(example.original, spec)) is not None]
    rows = [ImageRow("original", originals, captions)]
    for cut in samples[0].reconstructions:
        decoded = [image for example in samples if (image := signal_image(example.reconstructions[cut], spec)) is not None]
        gaps = [difference_image(*pair) for pair in zip(originals, decoded, strict=True)]
        rows.append(ImageRow(_label(cut), decoded))
        rows.append(ImageRow("difference, 4 times", gaps))
    maps = [token_map(example.tokens, side=originals[0].shape[1]) for example in samples]
    drawn = [drawing for drawing in maps if drawing is not None]
    if len(drawn) == len(maps):
        rows.append(ImageRow("tokens", drawn))
    note = f"{note} Equal tokens have equal colors." if drawn else note
    return ImageGrid(title, rows, width=min(max(originals[0].shape[1], 72), 110), note=note)


def _label(cut: Cut) -> str:
    return "reconstruction" if cut == Cut() else cut.in_words


def _caption(examples: Examples, example: Example) -> str:
    if examples.ranking is None or example.value is None:
        return example.key
    return f"{example.group}: {example.value:.4g}{f' {examples.ranking.unit}' if examples.ranking.unit else ''} · {example.key}"


def _details(entries: Sequence[ReportEntry]) -> list[Section]:
    """What could not be computed, and the details of the evaluation."""
    sections: list[Section] = []
    data = entries[0].result.data
    if data.skipped_count:
        more = f"and {data.skipped_count - len(data.skipped)} more" if data.skipped_count > len(data.skipped) else ""
        title = f"{data.skipped_count} files could not be used" if data.skipped_count > 1 else "One file could not be used"
        sections.append(Text(title, [*data.skipped, *filter(None, [more])]))
    sections += missing_values([entry.result for entry in entries])
    for entry in entries:
        model, result = entry.result.model, entry.result
        identity = [f"weights: SHA-256 {model.weights_sha256}, {model.parameters:,} parameters"] if model else []
        samples = f"samples: SHA-256 {result.data.samples_sha256} ({result.data.samples} of {result.data.identity})"
        extractors = [f"{name}: {sha}" for name, sha in result.extractors.items()]
        suite = f"suite: {json.dumps(result.suite, ensure_ascii=False)}"
        sections.append(Folded(f"What exactly was evaluated: {result.title}", [Text("", [*identity, samples, *extractors, suite])]))
    return sections
