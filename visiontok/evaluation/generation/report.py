"""The page of a generation run: the numbers, and samples of every class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from visiontok.evaluation.generation.samples import Samples
from visiontok.evaluation.results.report.clips import clip_gallery
from visiontok.evaluation.results.report.images import to_image_array
from visiontok.evaluation.results.report.page import write_report
from visiontok.evaluation.results.report.sections import Folded, ImageArray, ImageGrid, ImageRow, Row, Section, Table, Text
from visiontok.evaluation.results.report.sounds import sound_gallery
from visiontok.evaluation.results.report.tables import missing_values, result_table, warnings
from visiontok.evaluation.results.result import Result

_CLASSES, _EACH = 20, 10


def write_generation_report(path: Path, result: Result, samples: Samples) -> None:
    """Write one self-contained page.

    Args:
        path: of the HTML file.
        result: of a generation suite.
        samples: that were evaluated.
    """
    name = result.model.name if result.model else "given samples"
    shown = _images(samples) if samples.spec.modality == "image" else _clips_or_sounds(samples)
    sections: list[Section] = [*warnings([result]), *shown, result_table([result], title="Numbers"), *_seeds(result), *_by_class(result)]
    if result.generated_skipped:
        sections.append(Text("Samples that could not be read", list(result.generated_skipped)))
    sections += missing_values([result])
    identity = [f"weights: SHA-256 {result.model.weights_sha256}, {result.model.parameters:,} parameters"] if result.model else []
    documents: dict[str, Any] = {"sampling": result.sampling, "reference": result.data.to_dict(), "suite": result.suite}
    words = [f"{key}: {json.dumps(document, ensure_ascii=False)}" for key, document in documents.items() if document is not None]
    extractors = [f"{extractor}: {sha}" for extractor, sha in result.extractors.items()]
    generated = f"samples: SHA-256 {result.generated_sha256}"
    sections.append(Folded("What exactly was evaluated", [Text("", [*identity, generated, *extractors, *words])]))
    facts = {**result.environment.versions, **result.environment.hardware, "evaluated": f"{result.run.finished}, in {result.run.seconds:.0f} s"}
    write_report(path, f"{result.suite['name']}: {name}", sections, summary=str(result.suite.get("description", "")), facts=facts)


def _groups(samples: Samples, *, classes: int, each: int) -> tuple[dict[str, list[int]], str]:
    """The first samples of every class, or of all; and a note that says which these are."""
    if samples.classes is None:
        return {"": list(range(min(len(samples), classes * each)))}, "The first samples, not selected."
    of_class: dict[int, list[int]] = {}
    for row, label in enumerate(samples.classes):
        of_class.setdefault(label, []).append(row)
    further = len(of_class) - classes
    more = f" {further} further classes are not shown." if further > 0 else ""
    chosen = {f"class {label}": of_class[label][:each] for label in sorted(of_class)[:classes]}
    return chosen, f"The first samples of each class, not selected.{more}"


def _images(samples: Samples) -> list[Section]:
    groups, note = _groups(samples, classes=_CLASSES, each=_EACH)
    read: dict[int, ImageArray] = {row: to_image_array(image) for row, image in samples.read(sorted(row for rows in groups.values() for row in rows))}
    lines = [
        ImageRow(label, [read[row] for row in rows[start : start + _EACH] if row in read])
        for label, rows in groups.items()
        for start in range(0, len(rows), _EACH)
    ]
    width = min(110, max(next(iter(read.values())).shape[1], 48)) if read else 72
    return [ImageGrid("Samples", lines, width=width, note=note)]


def _clips_or_sounds(samples: Samples) -> list[Section]:
    """Clips side by side, class by class; sounds below each other, folded since they take much room."""
    spec, are_clips = samples.spec, samples.spec.modality == "video"
    groups, note = _groups(samples, classes=_CLASSES // 2, each=4 if are_clips else 1)
    if list(groups) == [""]:
        groups = {"": groups[""][: 4 if are_clips else 10]}
    read = dict(samples.read(sorted(row for rows in groups.values() for row in rows)))
    if are_clips:
        grids = [clip_gallery(label, [read[row] for row in rows if row in read], spec=spec) for label, rows in groups.items()]
        return [Text("Samples", [note]), *(grid for grid in grids if grid is not None)]
    labeled = {" ".join(filter(None, [label, f"sample {row + 1}"])): read[row] for label, rows in groups.items() for row in rows if row in read}
    grid = sound_gallery("", labeled, rate=round(spec.rate or 0))
    return [Folded("Samples", [Text("", [note]), grid])]


def _seeds(result: Result) -> list[Section]:
    spread = [(value, value.seeds) for value in result.values if value.seeds is not None]
    if not spread:
        return []
    columns = ["metric", *(f"seed {seed}" for seed in spread[0][1].values), "deviation"]
    rows = [
        Row([value.heading, *(f"{number:.4g}" for number in seeds.values.values()), f"{seeds.deviation:.2g}"], name=value.label)
        for value, seeds in spread
    ]
    return [Table("By seed", columns, rows, note="Each seed is another set of samples; the deviation is that of a single set.")]


def _by_class(result: Result) -> list[Section]:
    """Conditional accuracy by class."""
    sections: list[Section] = []
    for value in result.values:
        shares = value.details.get("by_class")
        if isinstance(shares, dict):
            rows = [Row([f"class {label}", f"{share:.3g}"]) for label, share in shares.items()]
            sections.append(Folded(f"{value.title} by class", [Table("", ["class", "share"], rows)]))
    return sections
