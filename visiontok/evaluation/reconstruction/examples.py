"""The worst, the middling and the best reconstructions of a measurement, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from visiontok.core.model import evaluating
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.evaluation.reconstruction.run import Measurement
from visiontok.evaluation.results.per_sample import Evidence
from visiontok.evaluation.results.result import Result
from visiontok.tokens import Latents, Tokens

_PREFERRED = ("psnr.mean_db", "ssim", "mse")


@dataclass(frozen=True, eq=False)
class Example:
    """One picture and what became of it.

    Attributes:
        group: "worst", "median" or "best".
        key: of the picture in its source.
        value: by which it was chosen; None where nothing ranks the pictures.
        original: (3, H, W) uint8.
        reconstructions: length, or None for all tokens -> (3, H, W) uint8.
        tokens: all of them, a batch of one.
    """

    group: str
    key: str
    value: float | None
    original: Tensor
    reconstructions: Mapping[int | None, Tensor]
    tokens: Tokens | Latents


@dataclass(frozen=True, eq=False)
class Examples:
    """What `show_examples` chose.

    Attributes:
        ranking: the value that ranked the pictures; None where no value could, and the first ones stand for all.
        pictures: worst first.
    """

    ranking: MetricValue | None
    pictures: tuple[Example, ...]


def show_examples(measurement: Measurement, result: Result, evidence: Evidence, *, each: int = 2) -> Examples:
    """Reconstruct again the pictures at both ends and in the middle of a ranking.

    They are ranked by PSNR if it was measured, else by SSIM, MSE or whatever else has a value per picture and a better side; with several
    lengths, at the last.
    """
    ranking = _ranking(result, evidence)
    if ranking is None:
        chosen: list[tuple[str, int, float | None]] = [("first", place, None) for place in range(min(3 * each, len(evidence.numbers)))]
    else:
        column = evidence.per_image[ranking.label]
        worst_first = np.argsort(column if ranking.better == "higher" else -column, kind="stable")
        chosen = [(group, int(place), float(column[place])) for group, place in _ends_and_middle(worst_first, each)]
    pictures = []
    with evaluating(measurement.tokenizer):
        for group, place, value in chosen:
            loaded = measurement.load([int(evidence.numbers[place])])
            lengths = measurement.suite.lengths or (None,)
            found = measurement.reconstruct(loaded, [*measurement.suite.lengths, None])
            reconstructions = {length: found[length][1][0] for length in lengths}
            pictures.append(Example(group, loaded.keys[0], value, to_uint8(loaded.signals.values)[0], reconstructions, found[None][0]))
    return Examples(ranking, tuple(pictures))


def _ranking(result: Result, evidence: Evidence) -> MetricValue | None:
    """The value by which to rank; of several lengths the last."""
    ranked = [value for value in result.values if value.label in evidence.per_image and value.better != "neither"]
    ranked = [value for value in ranked if np.ptp(np.nan_to_num(evidence.per_image[value.label])) > 0]
    for name in (*_PREFERRED, *dict.fromkeys(value.name for value in ranked)):
        values = [value for value in ranked if value.name == name]
        if values:
            return values[-1]
    return None


def _ends_and_middle(worst_first: np.ndarray, each: int) -> list[tuple[str, int]]:
    """Places with their group, every place once."""
    count = len(worst_first)
    each = min(each, max(1, count // 3))
    middle = (count - each) // 2
    groups = {"worst": worst_first[:each], "median": worst_first[middle : middle + each], "best": worst_first[max(count - each, 0) :]}
    found: dict[int, str] = {}
    for group, places in groups.items():
        for place in places.tolist():
            found.setdefault(place, group)
    return [(group, place) for place, group in found.items()]
