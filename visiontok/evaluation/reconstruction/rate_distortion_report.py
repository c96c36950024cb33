"""The page of `visiontok evaluate rd`: curves, numbers, and pictures at every setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from visiontok.evaluation.metrics.rate_distortion import token_use
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.evaluation.reconstruction.rate_distortion import Curve, Gallery
from visiontok.evaluation.results.report.images import to_pictures
from visiontok.evaluation.results.report.page import write_report
from visiontok.evaluation.results.report.sections import Folded, LinePlot, PictureRow, Pictures, Row, Section, Table, Text

_SKIPPED = ("psnr.pooled",)
"""Values that are in the JSON but say on a curve what another one says."""


def write_rate_distortion_report(path: str | Path, curves: Sequence[Curve], galleries: Sequence[Gallery]) -> None:
    """Write one self-contained page.

    Args:
        path: of the HTML file.
        curves: one per model, at least one.
        galleries: their pictures, in the same order.
    """
    sections: list[Section] = [*_plots(curves)]
    sections += [_table(curve) for curve in curves]
    sections += [_pictures(curve, gallery) for curve, gallery in zip(curves, galleries, strict=True)]
    sections += [section for curve in curves if curve.counts for section in _complexity(curve)]
    first = curves[0].results[0]
    protocols = {value.name: value.protocol for curve in curves for result in curve.results for value in result.values}
    sections.append(Folded("How it was measured", [Text("", [f"{name}: {protocol}." for name, protocol in protocols.items()])]))
    data = first.data
    facts = {**first.environment.versions, **first.environment.hardware, "measured": first.run.finished}
    summary = f"{data.images} pictures of {data.size[0]} × {data.size[1]} pixels, suite {first.suite['name']}. Bits are nominal: log2 K per id."
    write_report(path, f"Rate and distortion: {', '.join(curve.model for curve in curves)}", sections, summary=summary, facts=facts)


def qualities(curves: Sequence[Curve]) -> list[str]:
    """Names of what is drawn against the rate."""
    names = dict.fromkeys(name for curve in curves for point in curve.points for name in point.qualities)
    return [name for name in names if name not in _SKIPPED]


def _plots(curves: Sequence[Curve]) -> list[LinePlot]:
    plots = []
    for name in qualities(curves):
        known = next(point.qualities[name] for curve in curves for point in curve.points if name in point.qualities)
        y_label = f"{name}{f', {known.unit}' if known.unit else ''} ({known.better} is better)"
        for rate, x_label in (("tokens", "tokens per picture"), ("bits", "bits per picture")):
            series: dict[str, tuple[list[float], list[float]]] = {}
            for curve in curves:
                for point in curve.points:
                    x, value = getattr(point, rate), point.qualities.get(name)
                    if x > 0 and value is not None and value.value is not None:  # the axis is logarithmic
                        xs, ys = series.setdefault(curve.model, ([], []))
                        xs.append(x)
                        ys.append(value.value)
            if series:
                plots.append(LinePlot(f"{name} against {x_label}", series, x_label, y_label, log_x=True))
    return plots


def _table(curve: Curve) -> Table:
    names = qualities([curve])
    rows = []
    for point in curve.points:
        measured = [shown(point.qualities.get(name)) for name in names]
        rows.append(Row([point.label, f"{point.tokens:.4g}", f"{point.bits:.5g}", f"{point.bits_per_pixel:.3g}", *measured]))
    note = {
        "length": "The same tokens, cut or encoded to these lengths.",
        "max_loss": "The tokenizer chose the number of tokens for every picture by itself, for a wished mean absolute error.",
        "none": "This tokenizer has one length.",
    }[curve.setting]
    return Table(curve.model, ["setting", "tokens", "bits", "bits per pixel", *names], rows, note=f"{note}{_monotone(curve)} Intervals: JSON file.")


def shown(value: MetricValue | None) -> str:
    """The number alone; its interval stands in the JSON file."""
    return "–" if value is None or value.value is None else value.model_copy(update={"interval": None}).text


def _monotone(curve: Curve) -> str:
    """Whether more tokens are better, in words."""
    drawn = [(point.tokens, value.value) for point in curve.points if (value := point.qualities.get("psnr.mean_db")) and value.value is not None]
    if len(drawn) < 3:
        return ""
    return f" Rank correlation of PSNR with the number of tokens: {spearmanr(*zip(*drawn, strict=True)).statistic:.2f}."


def _complexity(curve: Curve) -> list[Section]:
    """How many tokens the pictures got."""
    rows, series = [], {}
    for wish, counts in zip(curve.wishes, curve.counts, strict=True):
        use = token_use(counts)
        rows.append(Row([f"error up to {wish:g}", *(f"{value:g}" for value in (use.lowest, *use.quartiles, use.highest))]))
        series[f"up to {wish:g}"] = (np.linspace(0, 100, len(counts)), np.sort(counts))
    columns = ["setting", "fewest", "first quartile", "median", "third quartile", "most"]
    note = "The count stands for the picture's complexity: the shortest description that this tokenizer finds for the wished quality."
    plot = LinePlot(f"Tokens that {curve.model} gives a picture", series, "share of the pictures, %", "tokens", note=note)
    return [plot, Table(f"Tokens per picture: {curve.model}", columns, rows)]


def _pictures(curve: Curve, gallery: Gallery) -> Pictures:
    side = max(gallery.originals.shape[2:])
    rows = [PictureRow("original", to_pictures(gallery.originals))]
    for seen in gallery.settings:
        decibels = ["identical" if math.isinf(value) else f"{value:.1f} dB" for value in seen.decibels]
        if curve.wishes:
            decibels = [f"{tokens} · {text}" for tokens, text in zip(seen.tokens, decibels, strict=True)]
        rows.append(PictureRow(seen.label, to_pictures(seen.reconstructions), decibels))
    note = f"Below each picture: {'its tokens and ' if curve.wishes else ''}PSNR."
    return Pictures(f"Pictures: {curve.model}", rows, width=min(128, max(72, side)), note=note)
