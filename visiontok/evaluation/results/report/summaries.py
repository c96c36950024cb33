"""Summaries of curves of quality against rate: area under the curve, Bjøntegaard deltas against the first curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.rate_distortion import area_under_curve, bd_quality, bd_rate
from visiontok.evaluation.metrics.value import Better
from visiontok.evaluation.results.report.sections import Row, Table


@dataclass(frozen=True, eq=False)
class QualityCurve:
    """One quality of one model at several rates.

    Attributes:
        model: its name.
        quality: title of the quality.
        unit: of the quality.
        better: its better direction.
        tokens, bits: (n,) per sample, rising.
        values: (n,) the quality at each.
        bits_per_second: (n,) of signals with a rate; empty for others.
    """

    model: str
    quality: str
    unit: str
    better: Better
    tokens: Sequence[float]
    bits: Sequence[float]
    values: Sequence[float]
    bits_per_second: Sequence[float] = ()


def curve_summaries(curves: Sequence[QualityCurve]) -> Table | None:
    """One line per curve of at least two points; None where there is none.

    Args:
        curves: of the same samples; deltas are against the first curve of each quality.
    """
    rows = []
    for quality in dict.fromkeys(curve.quality for curve in curves):
        same = [curve for curve in curves if curve.quality == quality and len(curve.values) > 1]
        for number, curve in enumerate(same):
            unit = f" {curve.unit}" if curve.unit else ""
            area, deltas = _area(curve), ["–", "–"]
            if number:
                rate, gain = _bjontegaard(same[0], curve)
                deltas = ["–" if rate is None else f"{rate:+.2f} %", "–" if gain is None else f"{gain:+.4g}{unit}"]
            rows.append(Row([curve.model, quality, "–" if area is None else f"{area:.4g}{unit}", *deltas]))
    if not rows:
        return None
    note = (
        "Area: mean quality over log2(tokens), by trapezoids. Bjøntegaard deltas over nominal bits, by monotone cubics, against the first model: how "
        "much more rate for the same quality, and how much more quality at the same rate; they need four points and a common range."
    )
    return Table("Curves in one number", ["model", "quality", "area", "delta rate", "delta quality"], rows, note=note)


def _rising(curve: QualityCurve) -> np.ndarray:
    """Qualities of which more is better."""
    values = np.asarray(curve.values, dtype=np.float64)
    return -values if curve.better == "lower" else values


def _area(curve: QualityCurve) -> float | None:
    """None where the token counts do not rise."""
    try:
        return area_under_curve(curve.tokens, curve.values)
    except EvaluationError:
        return None


def _bjontegaard(anchor: QualityCurve, test: QualityCurve) -> tuple[float | None, float | None]:
    """Delta rate in percent and delta quality; None where there are too few points or no common range."""
    try:
        rate = bd_rate(anchor.bits, _rising(anchor), test.bits, _rising(test))
    except EvaluationError:
        rate = None
    try:
        gain = bd_quality(anchor.bits, anchor.values, test.bits, test.values)
    except EvaluationError:
        gain = None
    return rate, gain
