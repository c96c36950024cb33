"""A collapsed tokenizer gives every sample the same tokens or the same reconstruction, while its codebook may be used completely."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

from visiontok.evaluation.metrics.accumulator import Accumulator
from visiontok.evaluation.metrics.metric import EvaluatedBatch
from visiontok.evaluation.metrics.spread import Spread
from visiontok.signals import SignalBatch
from visiontok.tokens import Tokens

ALARM = 0.01
"""Share of the originals' variance that reconstructions keep at least, unless the tokenizer has collapsed."""

_AREAS = 8
"""Along every axis: differences between samples are looked for in the means over areas."""


class CollapseCheck:
    """Compares how much originals and their reconstructions differ between samples; a few numbers per area, whatever the number of samples.

    Attributes:
        accumulators: what it has seen, by name.
    """

    def __init__(self) -> None:
        self._originals, self._samples, self._tokens = Spread(), Spread(), Spread()
        self.accumulators: dict[str, Accumulator] = {"originals": self._originals, "samples": self._samples, "tokens": self._tokens}

    def update(self, batch: EvaluatedBatch) -> None:
        """Take in a batch of reconstructions."""
        assert batch.reference is not None
        self._originals.update(_areas(batch.reference))
        if batch.samples is not None:
            self._samples.update(_areas(batch.samples))
        if isinstance(batch.tokens, Tokens):
            self._tokens.update(_digests(batch.tokens))

    def warnings(self) -> tuple[str, ...]:
        """What a reader of the numbers must know; nothing where the originals themselves do not differ."""
        found, between = [], self._originals.compute()
        if between > 0 and self._tokens.count > 1 and self._tokens.compute() == 0:
            found.append(f"all {self._tokens.count} samples have the same tokens: the tokenizer has collapsed")
        share = self._samples.compute() / between if between > 0 else 1.0
        if self._samples.count > 1 and share < ALARM:
            found.append(
                f"the reconstructions of {self._samples.count} samples hardly differ from each other (their variance between samples is {share:.2g} "
                "of that of the originals): the tokenizer has collapsed, or was not trained, whatever the usage of its codebook"
            )
        return tuple(found)


def _areas(signals: SignalBatch) -> Tensor:
    """(B, D) means over equal areas of each channel; of sound, which averages to zero, of magnitudes."""
    pool = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}[signals.values.ndim - 2]
    rows, parts = [], []
    for where, values in signals.groups():
        floats = values.double() if values.ndim > 3 else values.double().abs()
        rows.append(where)
        parts.append(pool(floats, _AREAS).flatten(1).cpu())  # type: ignore[operator]
    return torch.cat(parts)[torch.argsort(torch.cat(rows))]


def _digests(tokens: Tokens) -> np.ndarray:
    """(B, 1) a number for every sample, equal for equal tokens."""
    held = [sample.indices.cpu().numpy().tobytes() for sample in (tokens[row : row + 1] for row in range(len(tokens)))]
    return np.asarray([[int.from_bytes(hashlib.sha256(data).digest()[:4], "little")] for data in held], dtype=np.float64)
