"""Temporal consistency of single reconstructions of clips."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.entries.fidelity import sample_mean
from visiontok.evaluation.metrics.flicker import flicker
from visiontok.evaluation.metrics.metric import Aggregate, EvaluatedBatch, SampleMetric, Subject, Table, Value
from visiontok.signals.batch import cropped

_HOW = {
    "flicker.error": "mean of |(y[t+1] - y[t]) - (x[t+1] - x[t])| over the values of a clip",
    "flicker.excess": "mean of |y[t+1] - y[t]| minus mean of |x[t+1] - x[t]| over the values of a clip; above 0 for more change than in the original",
}


def _compute(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
    reference, samples = batch.pairs
    found = {key: torch.full((len(reference),), torch.nan, dtype=torch.float64) for key in _HOW}
    for rows, originals in reference.groups():
        others = cropped(samples.values[rows.to(samples.values.device)], originals.shape[2:])
        for key, column in zip(_HOW, flicker(originals, others), strict=True):
            found[key][rows] = column.cpu()
    return found


def _aggregate(table: Table, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    return [
        aggregate
        for key, how in _HOW.items()
        for aggregate in sample_mean(key, {"value": table[key]}, f"mean over clips of the {how}; {subject.scale}", bootstrap)
    ]


FLICKER = SampleMetric(
    name="flicker",
    values={
        "flicker.error": Value("Flicker: difference of frame differences", better="lower"),
        "flicker.excess": Value("Change between frames, more than in the original"),
    },
    needs=("decoder", "clips"),
    compute=_compute,
    aggregate=_aggregate,
)
