"""Batches of clips and of images in turn, for tokenizers that are trained on both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from visiontok.data.batch import DataBatch
from visiontok.data.skips import SkipReport
from visiontok.data.train_loader import TrainLoader
from visiontok.signals import SignalBatch


class JointLoader:
    """Of every `every` steps the last one is of images, as clips of one frame, and the others are of clips: a function of the step alone.

    Args:
        clips: the batches of clips.
        images: the batches of images.
        every: two at least.

    Attributes:
        report: what could not be used so far.
    """

    def __init__(self, clips: TrainLoader, images: TrainLoader, *, every: int) -> None:
        self._clips, self._images, self._every = clips, images, every
        self.report = SkipReport()
        for loader in (clips, images):
            self.report.add(loader.report)

    def batches(self, start_step: int = 0) -> Iterator[DataBatch]:
        """The batches of steps `start_step`, `start_step + 1`, ... without end. Each of the two loaders counts its own steps."""
        step, before = start_step, start_step // self._every
        clips, images = self._clips.batches(start_step - before), self._images.batches(before)
        while True:
            of_images = step % self._every == self._every - 1
            batch = next(images if of_images else clips)
            self.report.update(batch.skipped)
            yield replace(batch, signals=SignalBatch.of(batch.signals.values[:, :, None]) if of_images else batch.signals, step=step)
            step += 1
