"""Plots of results: quality against rate, how often codes are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from visiontok.evaluation.metrics.registry import QUALITIES
from visiontok.evaluation.metrics.value import Cut, MetricValue
from visiontok.evaluation.metrics.zipf import rank_frequency, zipf_fit
from visiontok.evaluation.results.report.sections import FEW_POINTS, BarPlot, LinePlot, Row, Table
from visiontok.evaluation.results.report.summaries import QualityCurve
from visiontok.evaluation.results.result import Result

NOT_DRAWN = ("psnr.pooled",)
"""Values that have the curve of another one."""

_RATES = {
    "bits_per_pixel": "bits per pixel",
    "bits_per_second": "bits per second",
    "bits_per_sample": "bits per sample",
    "tokens_per_sample": "tokens per sample",
}
"""The rates on the x axis -> their labels; of bits every variant: nominal, at the entropy, under a prior."""

_CURVE_POINTS, _BAR_NAMES = 200, 9
"""The most points of a curve, and the most bars with a name each."""


def rate_distortion_plots(results: Sequence[Result]) -> list[LinePlot]:
    """One plot per quality and rate: a curve over its lengths or levels for each model, or one point; nothing where there are too few points for a
    plot, which the table of the numbers says better.

    Args:
        results: on the same samples.
    """
    plots = []
    for known in _qualities(results):
        for rate, x_label in _rates(results):
            series = {title: _points(result, known.name, rate) for title, result in zip(distinct_titles(results), results, strict=True)}
            series = {model: points for model, points in series.items() if len(points[0])}
            if sum(len(x) for x, _ in series.values()) > FEW_POINTS and len({value for x, _ in series.values() for value in x}) > 1:
                y_label = f"{known.title}{f', {known.unit}' if known.unit else ''} ({known.better} is better)"
                plots.append(LinePlot(f"{known.title} against {x_label}", series, x_label, y_label, log_x=True))
    return plots


def distinct_titles(results: Sequence[Result]) -> list[str]:
    """Titles that tell results apart: "digits", "digits (2)" for two results of one name."""
    titles: list[str] = []
    for number, result in enumerate(results):
        earlier = sum(other.title == result.title for other in results[:number])
        titles.append(f"{result.title} ({earlier + 1})" if earlier else result.title)
    return titles


def rate_table(results: Sequence[Result]) -> Table | None:
    """Quality beside rate, one line per model: instead of plots of two points. None where the results have no rate or no quality.

    Args:
        results: of one length each, on the same samples.
    """
    rates = [known for name, _ in _rates(results) if (known := _first(results, name)) is not None]
    qualities = _qualities(results)
    if not rates or not qualities:
        return None
    rows = []
    for title, result in zip(distinct_titles(results), results, strict=True):
        found = {value.name: value for value in result.values if value.part is None and value.cut == Cut()}
        rows.append(Row([title, *(_number(found.get(known.name)) for known in (*rates, *qualities))]))
    return Table("Quality and rate", ["model", *(known.heading for known in (*rates, *qualities))], rows)


def curves_of(results: Sequence[Result]) -> list[QualityCurve]:
    """Every quality of every result over its lengths or levels, against nominal bits."""
    curves = []
    for known in _qualities(results):
        for result in results:
            tokens, values = _points(result, known.name, "tokens_per_sample")
            bits, _ = _points(result, known.name, "bits_per_sample.nominal")
            if len(bits) == len(tokens) and tokens:
                curves.append(QualityCurve(result.title, known.title, known.unit, known.better, tokens, bits, values))
    return curves


def zipf_plot(counts: Mapping[str, np.ndarray]) -> LinePlot | None:
    """Share of every code over its rank, both logarithmic.

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
    note = f"A straight line would be Zipf's law. Exponents by maximum likelihood over the codes that occur: {'; '.join(fits)}."
    return LinePlot("How often codes are used, by rank", series, "rank of the code", "share of all tokens", log_x=True, log_y=True, note=note)


def usage_histogram(name: str, counts: np.ndarray) -> BarPlot:
    """How many codes of a codebook occur never, once, two or three times, four to seven times, and so on."""
    edges = [0, 1]
    while edges[-1] <= counts.max(initial=0):
        edges.append(edges[-1] * 2)
    heights = np.histogram(counts, bins=[*edges, edges[-1] * 2])[0]
    names = [str(low) if low < 2 else f"{low}–{2 * low - 1}" if low < 128 else f"{low}+" for low in edges]
    while len(heights) > 2 and heights[-1] == 0:
        heights, names = heights[:-1], names[:-1]
    if len(names) > _BAR_NAMES:
        names = [name if row % 2 == 0 else "" for row, name in enumerate(names)]
    note = f"{np.count_nonzero(counts)} of {len(counts)} codes occur, among {int(counts.sum())} tokens."
    return BarPlot(f"Use of the codebook: {name}", heights, "times that a code occurs", "number of codes", names=names, note=note)


def _first(results: Sequence[Result], name: str) -> MetricValue | None:
    return next((value for result in results for value in result.values if value.name == name and value.part is None), None)


def _number(value: MetricValue | None) -> str:
    """Alone, without its interval."""
    return "–" if value is None else value.replace(interval=None).text


def _qualities(results: Sequence[Result]) -> list[MetricValue]:
    """One value of each name, in the order of the metrics."""
    known: dict[str, MetricValue] = {}
    for value in (value for result in results for value in result.values if value.part is None and value.name not in NOT_DRAWN):
        if value.better != "neither":
            known.setdefault(value.name, value)
    return [value for metric in QUALITIES for value in known.values() if value.metric == metric]


def _rates(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Names of values, and what to write at the axis."""
    names = dict.fromkeys(value.name for result in results for value in result.values)
    found = []
    for prefix, words in _RATES.items():
        for name in names:
            stem, _, variant = name.partition(".")
            if stem == prefix:
                how = {"nominal": ", nominal", "entropy": " at the entropy of the codes", "ar": " under the prior", "": ""}
                found.append((name, f"{words}{how.get(variant, '')}"))
    return found


def _points(result: Result, name: str, rate: str) -> tuple[list[float], list[float]]:
    rates = {value.cut: value.value for value in result.values if value.name == rate}
    qualities = [value for value in result.values if value.name == name and value.value is not None and rates.get(value.cut)]
    points = sorted((float(rates[value.cut] or 0), float(value.value or 0)) for value in qualities)
    return [x for x, _ in points], [y for _, y in points]
