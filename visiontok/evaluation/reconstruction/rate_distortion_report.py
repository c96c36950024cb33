"""The page of `visiontok evaluate rd`: curves, numbers, and samples at every setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from visiontok.evaluation.metrics.rate_distortion import lower_hull, token_use
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.evaluation.reconstruction.rate_distortion import Curve, Gallery
from visiontok.evaluation.results.report.curves import NOT_DRAWN
from visiontok.evaluation.results.report.page import write_report
from visiontok.evaluation.results.report.sections import FEW_POINTS, Folded, ImageGrid, ImageRow, LinePlot, Row, Section, Table, Text
from visiontok.evaluation.results.report.summaries import QualityCurve, curve_summaries
from visiontok.evaluation.results.report.tables import missing_values, titled


def write_rate_distortion_report(path: str | Path, curves: Sequence[Curve], galleries: Sequence[Gallery]) -> None:
    """Write one self-contained page.

    Args:
        path: of the HTML file.
        curves: one per model, at least one.
        galleries: their samples, in the same order.
    """
    with_images = [(curve, gallery) for curve, gallery in zip(curves, galleries, strict=True) if gallery.originals]
    results = [result for curve in curves for result in curve.results]
    alarms = [f"{curve.model}: {warning}" for curve in curves for warning in curve.warnings]
    sections: list[Section] = [*titled("Warnings", alarms), *(_images(curve, gallery) for curve, gallery in with_images), *_plots(curves)]
    for curve, gallery in zip(curves, galleries, strict=True):
        sections += [Folded(f"Sounds: {curve.model}", gallery.sounds)] if gallery.sounds else []
    summaries = curve_summaries([points for name in qualities(curves) for curve in curves if (points := _quality_curve(curve, name)) is not None])
    if summaries is not None:
        sections.append(summaries)
    sections += [_table(curve) for curve in curves]
    sections += [_reached(curve) for curve in curves if curve.reached]
    sections += [section for curve in curves if curve.counts for section in _complexity(curve)]
    sections += missing_values(results)
    first = results[0]
    protocols = {value.name: value.protocol for result in results for value in result.values}
    sections.append(Folded("How it was computed", [Text("", [f"{name}: {protocol}." for name, protocol in protocols.items()])]))
    facts = {**first.environment.versions, **first.environment.hardware, "evaluated": first.run.finished}
    summary = f"{first.data.in_words}, suite {first.suite['name']}. Bits are nominal: log2 K per token."
    write_report(path, f"Rate and distortion: {', '.join(curve.model for curve in curves)}", sections, summary=summary, facts=facts)


def qualities(curves: Sequence[Curve]) -> list[str]:
    """Names of what is drawn against the rate."""
    names = dict.fromkeys(name for curve in curves for point in curve.points for name in point.qualities)
    return [name for name in names if name not in NOT_DRAWN]


def shown(value: MetricValue | None) -> str:
    """The number alone; its interval is in the JSON file."""
    return "–" if value is None or value.value is None else value.replace(interval=None).text


def _quality_curve(curve: Curve, name: str) -> QualityCurve | None:
    """None where a model has no such quality."""
    points = [(point, value) for point in curve.points if (value := point.qualities.get(name)) is not None and value.value is not None]
    points = [(point, value) for point, value in points if point.tokens > 0]  # the axes are logarithmic
    if not points:
        return None
    known = points[0][1]
    numbers = [float(value.value or 0) for _, value in points]
    tokens, bits = [point.tokens for point, _ in points], [point.bits for point, _ in points]
    per_second = [point.bits_per_unit for point, _ in points] if _has_seconds(curve) else []
    return QualityCurve(curve.model, known.title, known.unit, known.better, tokens, bits, numbers, per_second)


def _has_seconds(curve: Curve) -> bool:
    """Whether its signals have seconds and no pixels."""
    names = {value.name for value in curve.results[0].values}
    return "bits_per_second.nominal" in names and "bits_per_pixel.nominal" not in names


def _plots(curves: Sequence[Curve]) -> list[LinePlot]:
    plots = []
    for name in qualities(curves):
        drawn = [points for curve in curves if (points := _quality_curve(curve, name)) is not None]
        bits = ("bits_per_second", "bits per second") if all(points.bits_per_second for points in drawn) else ("bits", "bits per sample")
        for rate, x_label in (("tokens", "tokens per sample"), bits):
            series = {curve.model: (getattr(curve, rate), curve.values) for curve in drawn}
            if sum(len(points.values) for points in drawn) <= FEW_POINTS:
                continue  # the tables of the models say it better
            if len(drawn) > 1 and drawn[0].better == "lower":
                series["lower hull"] = _hull(drawn, rate)
            y_label = f"{drawn[0].quality}{f', {drawn[0].unit}' if drawn[0].unit else ''} ({drawn[0].better} is better)"
            plots.append(LinePlot(f"{drawn[0].quality} against {x_label}", series, x_label, y_label, log_x=True))
    return plots


def _hull(curves: Sequence[QualityCurve], rate: str) -> tuple[Sequence[float], Sequence[float]]:
    """What mixing the settings of all models could reach."""
    x = np.concatenate([getattr(curve, rate) for curve in curves])
    hull = lower_hull(x, np.concatenate([curve.values for curve in curves]))
    order = np.argsort(x, kind="stable")
    return x[order].tolist(), hull[order].tolist()


def _table(curve: Curve) -> Table:
    points = curve.points
    unit = "bits per second" if _has_seconds(curve) else "bits per pixel"
    rows = [
        Row(["tokens", *(f"{point.tokens:.4g}" for point in points)]),
        Row(["bits", *(f"{point.bits:.5g}" for point in points)]),
        Row([unit, *(f"{point.bits_per_unit:.3g}" for point in points)]),
    ]
    for name in qualities([curve]):
        known = next(point.qualities[name] for point in points if name in point.qualities)
        rows.append(Row([known.heading, *(shown(point.qualities.get(name)) for point in points)], name=name))
    note = {
        "length": "The same tokens, cut or encoded to these lengths.",
        "levels": "The same tokens, cut to their first codebook levels.",
        "max_loss": "As few tokens for every sample as reach a mean absolute error.",
        "none": "This tokenizer has one length.",
    }[curve.setting]
    return Table(curve.model, ["metric", *(point.label for point in points)], rows, note=f"{note}{_monotone(curve)} Intervals: JSON file.")


def _monotone(curve: Curve) -> str:
    """Whether more tokens are better, in words."""
    drawn = [(point.tokens, value.value) for point in curve.points if (value := point.qualities.get("psnr.mean_db")) and value.value is not None]
    if len(drawn) < 3 or len({value for _, value in drawn}) < 2:
        return ""
    return f" Rank correlation of PSNR with the number of tokens: {spearmanr(*zip(*drawn, strict=True)).statistic:.2f}."


def _reached(curve: Curve) -> Table:
    """How many tokens samples need for a PSNR."""
    rows = []
    for entry in curve.reached:
        mean = "–" if entry.mean_over_reached is None else f"{entry.mean_over_reached:.4g}"
        rows.append(Row([f"{entry.decibels:g} dB", f"{entry.share:.0%}", mean, f"{entry.mean_capped:.4g}"]))
    note = "The smallest of these lengths at which a sample reaches the PSNR; the last column gives all tokens to samples that never do."
    return Table(
        f"Tokens for a PSNR: {curve.model}", ["PSNR", "samples that reach it", "mean tokens of those", "mean tokens of all"], rows, note=note
    )


def _complexity(curve: Curve) -> list[Section]:
    """How many tokens the samples got."""
    rows, series = [], {}
    for error, counts in zip(curve.targets, curve.counts, strict=True):
        use = token_use(counts)
        rows.append(Row([f"error up to {error:g}", *(f"{value:g}" for value in (use.lowest, *use.quartiles, use.highest))]))
        series[f"up to {error:g}"] = (np.linspace(0, 100, len(counts)), np.sort(counts))
    columns = ["setting", "fewest", "first quartile", "median", "third quartile", "most"]
    note = "The count estimates the complexity of the sample: the shortest description that this tokenizer finds for the target error."
    plot = LinePlot(f"Tokens that {curve.model} gives a sample", series, "share of the samples, %", "tokens", note=note)
    return [plot, Table(f"Tokens per sample: {curve.model}", columns, rows)]


def _images(curve: Curve, gallery: Gallery) -> ImageGrid:
    side = max(gallery.originals[0].shape[:2])
    rows = [ImageRow("original", gallery.originals)]
    for entry in gallery.rows:
        captions = [] if entry.decibels is None else ["identical" if math.isinf(value) else f"{value:.1f} dB" for value in entry.decibels]
        if curve.targets and captions:
            captions = [f"{tokens} · {text}" for tokens, text in zip(entry.tokens, captions, strict=True)]
        rows.append(ImageRow(entry.label, entry.reconstructions, captions))
    note = f"Below each image: {'its tokens and ' if curve.targets else ''}PSNR."
    return ImageGrid(f"Samples: {curve.model}", rows, width=min(128, max(72, side)), note=note)
