"""The worst, the median and the best reconstructions of a run, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from visiontok.base.modes import evaluating
from visiontok.evaluation.metrics.value import Cut, MetricValue
from visiontok.evaluation.reconstruction.run import ReconstructionRun
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.report.images import signal_image
from visiontok.evaluation.results.report.sections import ImageArray
from visiontok.evaluation.results.result import Result
from visiontok.tokens import Latents, Tokens

_PREFERRED = ("psnr.mean_db", "ssim", "mse")


@dataclass(frozen=True, eq=False)
class Example:
    """One sample and its reconstructions.

    Attributes:
        group: "worst", "median" or "best".
        key: of the sample in its source.
        value: by which it was chosen; None if no value ranks the samples.
        original: the sample.
        reconstructions: of each part of its tokens that the suite decodes; empty where there is none.
        tokens: all of them, a batch of one.
    """

    group: str
    key: str
    value: float | None
    original: ImageArray
    reconstructions: Mapping[Cut, ImageArray]
    tokens: Tokens | Latents


@dataclass(frozen=True, eq=False)
class Examples:
    """What `show_examples` chose.

    Attributes:
        ranking: the value that ranked the samples; None if no value could, and the first ones are shown.
        samples: worst first; none for signals that cannot be shown as images.
    """

    ranking: MetricValue | None
    samples: tuple[Example, ...]


def show_examples(run: ReconstructionRun, result: Result, per_sample: PerSampleResults, *, each: int = 2) -> Examples:
    """Reconstruct again the samples at both ends and in the middle of a ranking.

    They are ranked by PSNR if it was computed, else by SSIM, MSE or whatever else has a value per sample and a better direction; with several
    lengths or levels, at the last.
    """
    ranking = _ranking(result, per_sample)
    if ranking is None:
        chosen: list[tuple[str, int, float | None]] = [("first", row, None) for row in range(min(3 * each, len(per_sample.indices)))]
    else:
        column = per_sample.per_sample[ranking.label]
        worst_first = np.argsort(column if ranking.better == "higher" else -column, kind="stable")
        known = [None if np.isnan(value) else float(value) for value in column]
        chosen = [(group, int(row), known[row]) for group, row in _ends_and_middle(worst_first, each)]
    samples = []
    spec = run.tokenizer.preprocessing.spec
    with evaluating(run.tokenizer):
        for group, row, value in chosen:
            loaded = run.loader.read([int(per_sample.indices[row])])
            (signal,) = loaded.signals
            original = signal_image(signal, spec)
            if original is None:
                break
            found = run.reconstruct(loaded, (*run.suite.cuts, Cut()))
            shown: dict[Cut, ImageArray] = {}
            for cut in run.suite.cuts:
                reconstructions = found[cut][1]
                decoded = None if reconstructions is None else signal_image(next(iter(reconstructions)), spec)
                if decoded is not None:
                    shown[cut] = decoded
            samples.append(Example(group, loaded.keys[0], value, original, shown, found[Cut()][0]))
    return Examples(ranking, tuple(samples))


def _ranking(result: Result, per_sample: PerSampleResults) -> MetricValue | None:
    """The value by which to rank; of several cuts the last."""
    columns = per_sample.per_sample
    ranked = [value for value in result.values if value.label in columns and value.better != "neither"]
    ranked = [value for value in ranked if np.ptp(np.nan_to_num(columns[value.label])) > 0]
    for name in (*_PREFERRED, *dict.fromkeys(value.name for value in ranked)):
        values = [value for value in ranked if value.name == name]
        if values:
            return values[-1]
    return None


def _ends_and_middle(worst_first: np.ndarray, each: int) -> list[tuple[str, int]]:
    """Rows with their group, every row once."""
    count = len(worst_first)
    each = min(each, max(1, count // 3))
    middle = (count - each) // 2
    groups = {"worst": worst_first[:each], "median": worst_first[middle : middle + each], "best": worst_first[max(count - each, 0) :]}
    found: dict[int, str] = {}
    for group, rows in groups.items():
        for row in rows.tolist():
            found.setdefault(row, group)
    return [(group, row) for row, group in found.items()]
