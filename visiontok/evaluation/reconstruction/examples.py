"""The worst, the median and the best reconstructions of a run, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from visiontok.base.modes import evaluating
from visiontok.evaluation.metrics.value import Cut, MetricValue
from visiontok.evaluation.reconstruction.run import ReconstructionRun
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.report.images import signal_image
from visiontok.evaluation.results.result import Result
from visiontok.signals import SignalSpec
from visiontok.tokens import Latents, Tokens

_PREFERRED = ("psnr.mean_db", "ssim", "mse")


@dataclass(frozen=True, eq=False)
class Example:
    """One sample and its reconstructions.

    Attributes:
        group: "worst", "median" or "best".
        key: of the sample in its source.
        value: by which it was chosen; None if no value ranks the samples.
        original: the sample (C, *axes).
        reconstructions: of each part of its tokens that the suite decodes, likewise; empty where there is none.
        tokens: all of them, a batch of one.
    """

    group: str
    key: str
    value: float | None
    original: Tensor
    reconstructions: Mapping[Cut, Tensor]
    tokens: Tokens | Latents


@dataclass(frozen=True, eq=False)
class Examples:
    """What `show_examples` chose.

    Attributes:
        ranking: the value that ranked the samples; None if no value could, and the first ones are shown.
        samples: worst first; none for signals that can be neither shown nor played.
        spec: of the samples.
    """

    ranking: MetricValue | None
    samples: tuple[Example, ...]
    spec: SignalSpec


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
        worst_first = worst_first[~np.isnan(column[worst_first])]
        known = [None if np.isnan(value) else float(value) for value in column]
        chosen = [(group, int(row), known[row]) for group, row in _ends_and_middle(worst_first, each)]
    samples = []
    spec = run.spec
    with evaluating(run.tokenizer):
        for group, row, value in chosen:
            loaded = run.loader.read([int(per_sample.indices[row])])
            (signal,) = loaded.signals
            if spec.modality != "audio" and signal_image(signal, spec) is None:
                break
            found = run.reconstruct(loaded, (*run.suite.cuts, Cut()))
            decoded = {cut: batch for cut in run.suite.cuts if (batch := found[cut][1]) is not None}
            shown = {cut: next(iter(batch)) for cut, batch in decoded.items()}
            samples.append(Example(group, loaded.keys[0], value, signal, shown, found[Cut()][0]))
    return Examples(ranking, tuple(samples), spec)


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
