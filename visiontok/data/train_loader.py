"""Batches for training: endless, augmented, and the same whoever makes them and wherever a run is taken up."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from pydantic import Field

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError, DataError
from visiontok.data.batch import Batch, make_batch
from visiontok.data.cache import CachedSource
from visiontok.data.crops import CenterCrop, Crop
from visiontok.data.plan import BatchPlan, augmentation_rng
from visiontok.data.prefetch import prefetch
from visiontok.data.skips import UNUSABLE, Skip, SkipReport
from visiontok.data.source import ImageSource, Sample
from visiontok.signals import ImagePreprocessing

_MOST_REPLACEMENTS = 1000


class LoaderConfig(Config):
    """How pictures become training batches.

    Attributes:
        image_size: side of the square that the model takes.
        batch_size: samples per step, over all processes.
        crop: what is cut out of a picture.
        flip: mirror half of the samples.
        permute_colours: exchange red, green and blue in an order drawn for every sample, for sets too small to hold every colour.
        interpolation: of every resize, always with antialiasing.
        seed: of the order and of the augmentation.
        shuffle: a new order every epoch.
        num_workers: processes that prepare batches; 0 prepares them in the training process.
        cache_bytes: memory for pictures that stay decoded (and resized, where the crop allows it) between epochs, over all workers.
    """

    image_size: Annotated[int, Field(gt=0)]
    batch_size: Annotated[int, Field(gt=0)]
    crop: Crop = CenterCrop()
    flip: bool = False
    permute_colours: bool = False
    interpolation: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"
    seed: Annotated[int, Field(ge=0)] = 0
    shuffle: bool = True
    num_workers: Annotated[int, Field(ge=0)] = 0
    cache_bytes: Annotated[int, Field(ge=0)] = 2**28


class TrainLoader:
    """The training batches of a source.

    The samples of a step, their crops and their flips follow from (seed, step) alone: not from the number of workers or processes, and not from where
    the run was started. A sample that cannot be used is replaced by the next one that can, and reported.

    Attributes:
        plan: which samples make up which step.
        report: what could not be used so far.
    """

    def __init__(self, source: ImageSource, config: LoaderConfig, *, rank: int = 0, world_size: int = 1) -> None:
        """Share `rank` of `world_size` of every global batch is loaded.

        Raises:
            ConfigError: if the batch cannot be divided evenly.
            DataError: if the source is empty.
        """
        if config.batch_size % world_size or not 0 <= rank < world_size:
            raise ConfigError(f"batch_size {config.batch_size} does not divide into {world_size} processes (this one is number {rank})")
        if not len(source):
            raise DataError("the source holds no sample")
        self.plan = BatchPlan(len(source), config.batch_size, seed=config.seed, shuffle=config.shuffle)
        self.report = SkipReport(source.skipped)
        self._config = config
        self._resizing = ImagePreprocessing(size=config.image_size, interpolation=config.interpolation)
        self._source = CachedSource(source, self._prepare, max_bytes=config.cache_bytes // max(config.num_workers, 1))
        share = config.batch_size // world_size
        self._share = slice(rank * share, (rank + 1) * share)

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every sample is seen once."""
        return self.plan.num_samples / self.plan.batch_size

    def batches(self, start_step: int = 0) -> Iterator[Batch]:
        """The batches of steps `start_step`, `start_step + 1`, ... without end.

        Raises:
            DataError: if no sample can be used, or a thousand in a row cannot.
        """
        for batch in prefetch(self._make, range(start_step, sys.maxsize), num_workers=self._config.num_workers):
            self.report.update(batch.skipped)
            yield batch

    def _make(self, step: int) -> Batch:
        pixels, samples, indices = [], [], []
        skipped: list[Skip] = []
        for epoch, index in self.plan.slots(step)[self._share]:
            sample, square, used = self._usable(epoch, index, skipped)
            pixels.append(square)
            samples.append(sample)
            indices.append(used)
        images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous().float() / 255
        return make_batch(images, samples, indices, step=step, skipped=skipped)

    def _usable(self, epoch: int, index: int, skipped: list[Skip]) -> tuple[Sample, np.ndarray, int]:
        """The sample, its crop (S, S, 3) and its index; or those of the next sample that can be used."""
        tries = min(len(self._source), _MOST_REPLACEMENTS)
        for place in range(index, index + tries):
            candidate = place % len(self._source)
            try:
                sample = self._source.read(candidate)
                return sample, self._cut(sample.image, augmentation_rng(self._config.seed, epoch, index)), candidate
            except UNUSABLE as error:
                skipped.append(Skip(self._source.key(candidate), str(error)))
        raise DataError(f"none of {tries} samples in a row can be used; the last: {skipped[-1].reason}")

    def _prepare(self, image: Image.Image) -> Image.Image:
        return self._config.crop.prepare(image, self._config.image_size, self._resizing)

    def _cut(self, prepared: Image.Image, rng: np.random.Generator) -> np.ndarray:
        square = self._config.crop.cut(prepared, self._config.image_size, self._resizing, rng)
        mirrored = self._config.flip and rng.random() < 0.5
        pixels = np.asarray(ImageOps.mirror(square) if mirrored else square)
        return pixels[:, :, rng.permutation(3)] if self._config.permute_colours else pixels
