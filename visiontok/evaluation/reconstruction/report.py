"""The page of a run: what was measured on some models, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visiontok import registry
from visiontok.evaluation.reconstruction.examples import Example, Examples
from visiontok.evaluation.results.per_sample import Evidence
from visiontok.evaluation.results.report.curves import model_name, rate_distortion_plots, usage_histogram, zipf_plot
from visiontok.evaluation.results.report.images import difference_picture, to_picture, token_map
from visiontok.evaluation.results.report.page import write_report
from visiontok.evaluation.results.report.sections import BarPlot, Folded, LinePlot, PictureRow, Pictures, Section, Text
from visiontok.evaluation.results.report.tables import length_table, result_table
from visiontok.evaluation.results.result import Result

_HISTOGRAMS = 8
"""Codebooks of one model that are drawn; more look alike."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One model in a run.

    Attributes:
        result: its numbers.
        evidence: what they were computed from.
        examples: reconstructions to look at.
    """

    result: Result
    evidence: Evidence
    examples: Examples


def write_run_report(path: Path, measured: Sequence[Measured]) -> None:
    """Write one self-contained page. Models that were measured on different pixels get tables and plots of their own.

    Args:
        path: of the HTML file.
        measured: of one suite, at least one.
    """
    sections: list[Section] = []
    for pixels in dict.fromkeys(entry.result.data.pixels_sha256 for entry in measured):
        sections += _together([entry for entry in measured if entry.result.data.pixels_sha256 == pixels])
    for entry in measured:
        sections += _codebooks(entry)
    for entry in measured:
        sections.append(_reconstructions(entry))
    sections += _details(measured)
    first = measured[0].result
    title = f"{first.suite['name']}: {', '.join(model_name(entry.result) for entry in measured)}"
    facts = {**first.environment.versions, **first.environment.hardware, "measured": f"{first.run.finished}, in {first.run.seconds:.0f} s"}
    write_report(path, title, sections, summary=str(first.suite.get("description", "")), facts=facts)


def _together(measured: Sequence[Measured]) -> list[Section]:
    results = [entry.result for entry in measured]
    published = {model_name(result): _published(result) for result in results}
    sections: list[Section] = []
    if results[0].suite.get("lengths"):
        sections += [length_table(result, published=published[model_name(result)]) for result in results]
    else:
        sections.append(result_table(results, title="Numbers", published=published))
    sections += rate_distortion_plots(results)
    counts = {f"{model_name(entry.result)}, {name}": column for entry in measured for name, column in entry.evidence.code_counts.items()}
    zipf = zipf_plot(dict(list(counts.items())[:_HISTOGRAMS]))
    return [*sections, zipf] if zipf else sections


def _published(result: Result) -> Sequence[registry.PublishedFigure]:
    known = registry.checkpoints()
    return known[model_name(result)][1].published if model_name(result) in known else ()


def _codebooks(entry: Measured) -> list[Section]:
    name = model_name(entry.result)
    plots: list[LinePlot | BarPlot] = [
        usage_histogram(f"{name}, {codebook}", counts) for codebook, counts in list(entry.evidence.code_counts.items())[:_HISTOGRAMS]
    ]
    return [*plots[:1], Folded(f"Further codebooks of {name}", plots[1:])] if len(plots) > 1 else [*plots]


def _reconstructions(entry: Measured) -> Pictures:
    """Below each original what became of it."""
    pictures = entry.examples.pictures
    originals = [to_picture(example.original) for example in pictures]
    rows = [PictureRow("original", originals, [_caption(entry.examples, example) for example in pictures])]
    for length in pictures[0].reconstructions:
        decoded = [to_picture(example.reconstructions[length]) for example in pictures]
        gaps = [difference_picture(*pair) for pair in zip(originals, decoded, strict=True)]
        rows.append(PictureRow("reconstruction" if length is None else f"{length} tokens", decoded))
        rows.append(PictureRow("difference, 4 times", gaps))
    maps = [token_map(example.tokens, side=originals[0].shape[1]) for example in pictures]
    drawn = [drawing for drawing in maps if drawing is not None]
    if len(drawn) == len(maps):
        rows.append(PictureRow("tokens", drawn))
    ranking = entry.examples.ranking
    chosen = "The first pictures." if ranking is None else f"The worst, the middling and the best pictures by {ranking.label}."
    note = f"{chosen} Equal ids have equal colours." if drawn else chosen
    return Pictures(f"Reconstructions by {model_name(entry.result)}", rows, width=min(originals[0].shape[1], 110), note=note)


def _caption(examples: Examples, example: Example) -> str:
    if examples.ranking is None or example.value is None:
        return example.key
    return f"{example.group}: {example.value:.4g}{f' {examples.ranking.unit}' if examples.ranking.unit else ''} · {example.key}"


def _details(measured: Sequence[Measured]) -> list[Section]:
    """What could not be measured, and the small print."""
    sections: list[Section] = []
    data = measured[0].result.data
    if data.skipped_count:
        more = f"and {data.skipped_count - len(data.skipped)} more" if data.skipped_count > len(data.skipped) else ""
        title = f"{data.skipped_count} files could not be used" if data.skipped_count > 1 else "One file could not be used"
        sections.append(Text(title, [*data.skipped, *filter(None, [more])]))
    omitted = [f"{model_name(entry.result)}, {metric}: {reason}" for entry in measured for metric, reason in entry.result.omitted.items()]
    if omitted:
        sections.append(Text("Not measured", omitted))
    for entry in measured:
        model, result = entry.result.model, entry.result
        identity = [f"weights: SHA-256 {model.weights_sha256}, {model.parameters:,} parameters"] if model else []
        pixels = f"pixels: SHA-256 {result.data.pixels_sha256} ({result.data.images} of {result.data.identity})"
        extractors = [f"{name}: {sha}" for name, sha in result.extractors.items()]
        suite = f"suite: {json.dumps(result.suite, ensure_ascii=False)}"
        sections.append(Folded(f"What exactly was measured: {model_name(result)}", [Text("", [*identity, pixels, *extractors, suite])]))
    return sections
