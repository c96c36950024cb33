"""A batch of signals as the loaders give it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from visiontok.data.skips import Skip
from visiontok.data.source import Sample
from visiontok.signals import SignalBatch


@dataclass(frozen=True, eq=False)
class DataBatch:
    """The signals of one step, with what is known about them.

    Attributes:
        signals: B preprocessed signals, which may differ in size.
        labels: (B,) int64; None unless every sample has one.
        captions: B texts; None unless every sample has one.
        keys: B keys.
        indices: (B,) int64 sample indices within the source.
        step: of training; of other loaders, the index of the batch.
        skipped: samples that could not be used.
        objects: (B,) int64 how many objects an image shows; None unless known of every sample.
    """

    signals: SignalBatch
    labels: Tensor | None
    captions: tuple[str, ...] | None
    keys: tuple[str, ...]
    indices: Tensor
    step: int
    skipped: tuple[Skip, ...] = ()
    objects: Tensor | None = None

    def __len__(self) -> int:
        return len(self.keys)


def make_batch(signals: SignalBatch, samples: Sequence[Sample], indices: Sequence[int], *, step: int, skipped: Sequence[Skip]) -> DataBatch:
    """Put samples and their preprocessed signals together."""
    labels = [sample.label for sample in samples if sample.label is not None]
    objects = [sample.objects for sample in samples if sample.objects is not None]
    captions = tuple(sample.caption for sample in samples if sample.caption is not None)
    complete = len(samples) > 0
    return DataBatch(
        signals=signals,
        labels=torch.tensor(labels, dtype=torch.int64) if complete and len(labels) == len(samples) else None,
        captions=captions if complete and len(captions) == len(samples) else None,
        keys=tuple(sample.key for sample in samples),
        indices=torch.tensor(list(indices), dtype=torch.int64),
        step=step,
        skipped=tuple(skipped),
        objects=torch.tensor(objects, dtype=torch.int64) if complete and len(objects) == len(samples) else None,
    )
