"""Plots of results: quality against rate, how often ids are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from visiontok.evaluation.metrics.value import MetricValue
from visiontok.evaluation.metrics.zipf import rank_frequency, zipf_fit
from visiontok.evaluation.results.report.sections import BarPlot, LinePlot
from visiontok.evaluation.results.result import Result

_QUALITIES = ("psnr.mean_db", "ssim", "lpips", "dists", "FID", "FD[")
"""What is drawn against the rate: values whose names begin so."""

_RATES = {"bits_per_pixel.nominal": "bits per pixel, nominal", "tokens_per_image": "tokens per image"}

_CURVE_POINTS, _BAR_NAMES = 200, 9
"""More points than a curve shows, more names than stand side by side."""


def rate_distortion_plots(results: Sequence[Result]) -> list[LinePlot]:
    """One plot per quality and rate: a curve over its lengths for each model, or one point; nothing where all points would be one.

    Args:
        results: measured on the same pixels.
    """
    plots = []
    for name in _measured_qualities(results):
        for rate, x_label in _RATES.items():
            series = {model_name(result): _points(result, name, rate) for result in results}
            series = {model: points for model, points in series.items() if len(points[0])}
            if sum(len(x) for x, _ in series.values()) > 1 and len({value for x, _ in series.values() for value in x}) > 1:
                better, unit = _facts(results, name)
                y_label = f"{name}{f', {unit}' if unit else ''} ({better} is better)"
                plots.append(LinePlot(f"{name} against {x_label.partition(',')[0]}", series, x_label, y_label, log_x=True))
    return plots


def zipf_plot(counts: Mapping[str, np.ndarray]) -> LinePlot | None:
    """Share of every id over its rank, both logarithmic.

    Args:
        counts: name of a curve -> (K,) counts.
    """
    series, fits = {}, []
    for name, column in counts.items():
        frequency = rank_frequency(column)
        if len(frequency) < 2:
            continue
        ranks = np.arange(1, len(frequency) + 1)
        if len(ranks) > _CURVE_POINTS:
            ranks = np.unique(np.geomspace(1, len(ranks), _CURVE_POINTS).round().astype(int))
        series[name] = (ranks, frequency[ranks - 1] / frequency.sum())
        fits.append(f"{name} {zipf_fit(column).exponent:.2f}")
    if not series:
        return None
    note = f"A straight line would be Zipf's law. Exponents by maximum likelihood over the ids that occur: {'; '.join(fits)}."
    return LinePlot("How often ids are used, by rank", series, "rank of the id", "share of all ids", log_x=True, log_y=True, note=note)


def usage_histogram(name: str, counts: np.ndarray) -> BarPlot:
    """How many ids of a codebook occur never, once, two or three times, four to seven times, and so on."""
    edges = [0, 1]
    while edges[-1] <= counts.max(initial=0):
        edges.append(edges[-1] * 2)
    heights = np.histogram(counts, bins=[*edges, edges[-1] * 2])[0]
    names = [str(low) if low < 2 else f"{low}–{2 * low - 1}" if low < 128 else f"{low}+" for low in edges]
    while len(heights) > 2 and heights[-1] == 0:
        heights, names = heights[:-1], names[:-1]
    if len(names) > _BAR_NAMES:
        names = [name if place % 2 == 0 else "" for place, name in enumerate(names)]
    note = f"{np.count_nonzero(counts)} of {len(counts)} ids occur, among {int(counts.sum())} in all."
    return BarPlot(f"Use of the codebook: {name}", heights, "times that an id occurs", "number of ids", names=names, note=note)


def model_name(result: Result) -> str:
    """As a reader knows it."""
    return result.model.name if result.model else "samples"


def _measured_qualities(results: Sequence[Result]) -> list[str]:
    names = dict.fromkeys(value.name for result in results for value in result.values if value.part is None)
    return [name for prefix in _QUALITIES for name in names if name.startswith(prefix)]


def _points(result: Result, name: str, rate: str) -> tuple[list[float], list[float]]:
    rates = {value.length: value.value for value in result.values if value.name == rate}
    qualities = [value for value in result.values if value.name == name and value.value is not None and rates.get(value.length)]
    points = sorted((float(rates[value.length] or 0), float(value.value or 0)) for value in qualities)
    return [x for x, _ in points], [y for _, y in points]


def _facts(results: Sequence[Result], name: str) -> tuple[str, str]:
    value: MetricValue = next(value for result in results for value in result.values if value.name == name)
    return value.better, value.unit
