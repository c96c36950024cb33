"""Whether quality rises with rate: an ordered or residual tokenizer whose reconstructions become worse with more tokens was not trained for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, bootstrap_mean
from visiontok.evaluation.metrics.registry import QUALITIES
from visiontok.evaluation.metrics.value import MetricValue


@dataclass(frozen=True, eq=False)
class RatePoint:
    """The qualities of the same samples at one rate.

    Attributes:
        label: the setting, in words.
        values: name -> mean over the samples.
        columns: name -> (N,) what each sample contributes, by sample index.
    """

    label: str
    values: Mapping[str, MetricValue]
    columns: Mapping[str, np.ndarray]


def rate_points(values: Sequence[MetricValue], per_sample: Mapping[str, np.ndarray], *, label: str | None = None) -> list[RatePoint]:
    """Every cut of the tokens that a result has values for, by rising rate.

    Args:
        values: of one result.
        per_sample: label of a value -> (N,).
        label: of the points; by default the part of the tokens that is decoded.
    """
    found = []
    for cut in sorted({value.cut for value in values}):
        qualities = [
            value for value in values if value.cut == cut and value.metric in QUALITIES and value.better != "neither" and value.label in per_sample
        ]
        columns = {value.name: per_sample[value.label] for value in qualities}
        found.append(RatePoint(label or cut.in_words, {value.name: value for value in qualities}, columns))
    return found


def curve_warnings(points: Sequence[RatePoint], bootstrap: BootstrapConfig) -> tuple[str, ...]:
    """One sentence for every quality that falls from one rate to the next by more than chance, or is no better at the highest rate.

    Differences are paired by sample; a fall is one whose bootstrap interval lies below zero.

    Args:
        points: by rising rate.
        bootstrap: of the intervals.
    """
    found = []
    for name in dict.fromkeys(name for point in points for name in point.values):
        having = [point for point in points if name in point.values]
        falls = [
            _sentence("worse", name, *pair)
            for pair in pairwise(having)
            if (interval := bootstrap_mean(_gains(name, *pair), bootstrap)) is not None and interval.high < 0
        ]
        if not falls and len(having) > 1 and not (_gains(name, having[0], having[-1]) > 0).any():
            falls = [_sentence("no better", name, having[0], having[-1])]
        if falls:
            found.append(f"quality does not rise with rate: {'; '.join(falls)}")
    return tuple(found)


def _gains(name: str, low: RatePoint, high: RatePoint) -> np.ndarray:
    """What each sample that has a value at both rates gains at the higher one."""
    gains = high.columns[name] - low.columns[name]
    gains = gains[np.isfinite(gains)]
    return gains if low.values[name].better == "higher" else -gains


def _sentence(how: str, name: str, low: RatePoint, high: RatePoint) -> str:
    before, after = (point.values[name].replace(interval=None).text for point in (low, high))
    return f"{high.values[name].title} is {how} at {high.label} ({after}) than at {low.label} ({before})"
