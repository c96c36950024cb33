"""Small drawings of one sound: its waveform and its spectrogram, in the colors of the page."""

from __future__ import annotations

from typing import Any

import numpy as np

from visiontok.evaluation.results.report.plots import INK, SERIES, as_svg
from visiontok.evaluation.results.report.sections import Spectrogram, Waveform

_SIZE = (3.3, 1.75)
"""Of a drawing, in inches; on the page it is as wide as its column."""

_LOUDER, _SOFTER = (214, 69, 65), (66, 120, 214)
"""Of differences; they are as opaque as the difference is large, so that they show on light and on dark pages."""


def draw_panel(panel: Waveform | Spectrogram, *, salt: str) -> str:
    """The drawing as an `<svg>` element.

    Args:
        panel: what to draw.
        salt: keeps element names inside apart from those of the page's other drawings.
    """
    from matplotlib import rc_context  # takes half a second
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 7.5, "axes.linewidth": 0.6}):
        figure = Figure(figsize=_SIZE)
        axes = figure.add_axes((0.13, 0.2, 0.83, 0.75))
        unit, duration = ("s", panel.seconds) if panel.seconds >= 1 else ("ms", 1000 * panel.seconds)
        if isinstance(panel, Waveform):
            _waveform(axes, panel, duration)
        else:
            _spectrogram(axes, panel, duration)
        axes.set_xlabel(unit, color=INK, labelpad=1)
        axes.tick_params(colors=INK, which="both", length=2, pad=2)
        axes.locator_params(nbins=5)
        return as_svg(figure)


def _waveform(axes: Any, panel: Waveform, duration: float) -> None:
    low, high = np.asarray(panel.low), np.asarray(panel.high)
    times = (np.arange(len(low)) + 0.5) / len(low) * duration
    axes.fill_between(times, low, high, color=SERIES[0], linewidth=0.4)
    axes.set_xlim(0, duration)
    axes.set_ylim(-panel.limit, panel.limit)


def _spectrogram(axes: Any, panel: Spectrogram, duration: float) -> None:
    levels = np.asarray(panel.decibels, dtype=np.float64)
    if panel.is_difference:
        colors = np.zeros((*levels.shape, 4), dtype=np.uint8)
        colors[..., :3] = np.where(levels[..., None] > 0, _LOUDER, _SOFTER)
        colors[..., 3] = np.clip(np.abs(levels) / panel.high, 0, 1) * 255
    else:
        from matplotlib import colormaps

        colors = colormaps["magma"](np.clip((levels - panel.low) / (panel.high - panel.low), 0, 1), bytes=True)
    axes.imshow(colors, origin="lower", aspect="auto", interpolation="none", extent=(0, duration, 0, panel.kilohertz))
    axes.set_ylabel("kHz", color=INK, labelpad=1)
