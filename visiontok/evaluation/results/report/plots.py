"""Plots as SVG that takes its colors from the page, so that they are right in light and in dark."""

from __future__ import annotations

import io
import re
import textwrap
from typing import Any

import numpy as np

from visiontok.evaluation.results.report.sections import BarPlot, LinePlot, PointPlot

INK, RULE = "#010203", "#040506"
"""Of text and of lines in drawings. These and the next are placeholders for the colors of the page, see `as_svg`; they only need to be unique."""

SERIES = ("#a10001", "#a10002", "#a10003", "#a10004", "#a10005", "#a10006")
"""Of data in drawings."""

_COLORS = {INK: "currentColor", RULE: "var(--rule)", **{color: f"var(--series-{number})" for number, color in enumerate(SERIES, 1)}}

_MARKERS = {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼", "*": "★"}
"""Of points, by matplotlib's names, and as they stand in a legend."""

_LONGEST_Y_LABEL = 36
"""Characters on a line beside the axis."""

_MAX_POINTS, _FEW_POINTS = 1000, 32


def draw_plot(plot: LinePlot | PointPlot | BarPlot, *, salt: str) -> str:
    """The plot as an `<svg>` element.

    Args:
        plot: what to draw.
        salt: keeps element names inside apart from those of the page's other plots.
    """
    from matplotlib import rc_context  # takes half a second
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9, "axes.linewidth": 0.8, "lines.linewidth": 1.6}):
        figure = Figure(figsize=(5.2, 2.9), layout="constrained")
        axes = figure.subplots()
        if isinstance(plot, LinePlot):
            _lines(axes, plot)
        elif isinstance(plot, PointPlot):
            _points(axes, plot)
        else:
            _bars(axes, plot)
        axes.set_xlabel(_literal(plot.x_label), color=INK)
        axes.set_ylabel(textwrap.fill(_literal(plot.y_label), _LONGEST_Y_LABEL), color=INK)
        axes.tick_params(colors=INK, which="both", length=3)
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        return as_svg(figure)


def legend(plot: LinePlot | PointPlot | BarPlot) -> list[tuple[str, str, str]]:
    """What stands below a plot of several series: the mark of each, its color and its name."""
    if isinstance(plot, BarPlot) or len(plot.series) < 2:
        return []
    marks = list(_MARKERS.values())
    found = []
    for number, name in enumerate(plot.series):
        index = number % len(SERIES)
        mark = marks[index] if isinstance(plot, PointPlot) else "—" if number < len(SERIES) else "- -"
        found.append((mark, _COLORS[SERIES[index]], name))
    return found


def _lines(axes: Any, plot: LinePlot) -> None:
    for number, (x, y) in enumerate(plot.series.values()):
        xs, ys = _thinned(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
        few = {"marker": "o", "markersize": 4} if len(xs) <= _FEW_POINTS else {}
        axes.plot(xs, ys, color=SERIES[number % len(SERIES)], linestyle="-" if number < len(SERIES) else "--", **few)
    if plot.log_x:
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis)
    if plot.log_y:
        axes.set_yscale("log")


def _points(axes: Any, plot: PointPlot) -> None:
    for number, (x, y) in enumerate(plot.series.values()):
        index = number % len(SERIES)
        axes.scatter(np.asarray(x), np.asarray(y), s=22, color=SERIES[index], marker=list(_MARKERS)[index])


def _plain_numbers(axis: Any) -> None:
    """Few decades are labeled 1, 2, 5, 10, 20 ..., many by powers of ten."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    if low > 0 and high < 1000 * low:
        axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_locator(NullLocator())


def _bars(axes: Any, plot: BarPlot) -> None:
    heights = np.asarray(plot.heights, dtype=np.float64)
    if plot.names or len(heights) <= 64:
        axes.bar(np.arange(len(heights)), heights, width=0.8, color=SERIES[0])
    else:  # too many for a marker each
        axes.fill_between(np.arange(len(heights)), heights, step="mid", color=SERIES[0], linewidth=0)
    if plot.names:
        axes.set_xticks(np.arange(len(heights)), [_literal(name) for name in plot.names])
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most a thousand points: means of neighbors, so that noise is not picked by chance."""
    if len(x) <= _MAX_POINTS:
        return x, y
    blocks = np.array_split(np.arange(len(x)), _MAX_POINTS)
    return np.asarray([x[block].mean() for block in blocks]), np.asarray([y[block].mean() for block in blocks])


def _literal(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")


def as_svg(figure: Any) -> str:
    """The `<svg>` element of a drawing by matplotlib, in the colors of the page; its axes keep their left and lower lines."""
    for axes in figure.axes:
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(RULE)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for painted, shown in _COLORS.items():
        svg = svg.replace(painted, shown)
    return svg
