"""Batches for training: endless, augmented, and the same whoever makes them and wherever a run is taken up."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.base.errors import ConfigError, DataError
from visiontok.base.modality import AXES
from visiontok.data.batch import DataBatch, make_batch
from visiontok.data.cache import CachedSource
from visiontok.data.crops import CenterCrop, Crop, RandomScaleCrop
from visiontok.data.plan import BatchPlan, augmentation_rng
from visiontok.data.prefetch import prefetch
from visiontok.data.skips import UNUSABLE, Skip, SkipReport
from visiontok.data.source import Sample, Source
from visiontok.signals import ImagePreprocessing, Preprocessing, SignalBatch, SignalLike
from visiontok.signals.video_reading import Clip

_MOST_REPLACEMENTS = 1000

FrameStride: TypeAlias = Positive | tuple[Positive, Positive]
"""One number, or the smallest and the largest."""


class LoaderConfig(Config):
    """How signals become training batches.

    Attributes:
        batch_size: samples per step, over all processes.
        size: what is cut out of every signal: one number for the side of the square of images and frames, the samples of sound or the vectors of a
            feature sequence; or one number per axis. None leaves signals as the preprocessing gives them.
        crop: where it is cut out. Decoded images, and decoded clips whose frames are cut to squares, are also resized to it; other signals keep their
            scale, and those that are shorter stay whole.
        frame_stride: of clips, take every n-th frame; of two numbers, n is drawn between them for every sample. Shorter clips get the largest n that
            leaves as many frames as `size` asks for.
        flip: mirror half of the samples (images and video).
        permute_colors: exchange red, green and blue in an order drawn for every sample, for sets too small to hold every color.
        interpolation: of every resize, always with antialiasing.
        seed: of the order and of the augmentation.
        shuffle: a new order every epoch.
        num_workers: processes that prepare batches; 0 prepares them in the training process.
        cache_bytes: memory for signals that stay decoded (and resized, where the crop allows it, or resampled) between epochs, over all workers.
    """

    batch_size: Positive
    size: Positive | tuple[Positive, ...] | None = None
    crop: Crop = CenterCrop()
    frame_stride: FrameStride = 1
    flip: bool = False
    permute_colors: bool = False
    interpolation: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"
    seed: Annotated[int, Field(ge=0)] = 0
    shuffle: bool = True
    num_workers: Annotated[int, Field(ge=0)] = 0
    cache_bytes: Annotated[int, Field(ge=0)] = 2**28

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.frame_stride, tuple) and self.frame_stride[0] > self.frame_stride[1]:
            raise ValueError(f"frame_stride {self.frame_stride} must not decrease")
        return self


class TrainLoader:
    """The training batches of a source.

    The samples of a step, their crops and their flips follow from (seed, step) alone: not from the number of workers or processes, and not from where
    the run was started. A sample that cannot be used is replaced by the next one that can, and reported.

    Attributes:
        plan: which samples make up which step.
        report: what could not be used so far.
    """

    def __init__(self, source: Source, config: LoaderConfig, *, preprocessing: Preprocessing, rank: int = 0, world_size: int = 1) -> None:
        """Share `rank` of `world_size` of every global batch is loaded.

        Args:
            source: of the signals.
            config: batches and augmentation.
            preprocessing: of the model; it takes signals after augmentation.
            rank: of this process.
            world_size: number of processes.

        Raises:
            ConfigError: if the batch cannot be divided evenly, or the size or the augmentation is not one of the source's modality.
            DataError: if the source is empty.
        """
        if config.batch_size % world_size or not 0 <= rank < world_size:
            raise ConfigError(f"batch_size {config.batch_size} does not divide into {world_size} processes (this is rank {rank})")
        if not len(source):
            raise DataError("the source holds no sample")
        self._window = window_of(config.size, source.modality)
        _check_augmentation(config, source.modality)
        self.plan = BatchPlan(len(source), config.batch_size, seed=config.seed, shuffle=config.shuffle)
        self.report = SkipReport(source.skipped)
        self._config = config
        self._preprocessing = preprocessing
        self._side = side_of(self._window, source.modality)
        self._resizing = ImagePreprocessing(size=self._side, interpolation=config.interpolation)
        self._source = CachedSource(source, self._prepare, max_bytes=config.cache_bytes // max(config.num_workers, 1))
        share = config.batch_size // world_size
        self._share = slice(rank * share, (rank + 1) * share)

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every sample is seen once."""
        return self.plan.num_samples / self.plan.batch_size

    def batches(self, start_step: int = 0) -> Iterator[DataBatch]:
        """The batches of steps `start_step`, `start_step + 1`, ... without end.

        Raises:
            DataError: if no sample can be used, or a thousand in a row cannot.
        """
        for batch in prefetch(self._make, range(start_step, sys.maxsize), num_workers=self._config.num_workers):
            self.report.update(batch.skipped)
            yield batch

    def _make(self, step: int) -> DataBatch:
        signals, samples, indices = [], [], []
        skipped: list[Skip] = []
        for epoch, index in self.plan.slots(step)[self._share]:
            sample, signal, used = self._usable(epoch, index, skipped)
            signals.append(signal)
            samples.append(sample)
            indices.append(used)
        return make_batch(SignalBatch.stack(signals), samples, indices, step=step, skipped=skipped)

    def _usable(self, epoch: int, index: int, skipped: list[Skip]) -> tuple[Sample, Tensor, int]:
        """The sample, its augmented signal (C, *axes) and its index; or those of the next sample that can be used."""
        tries = min(len(self._source), _MOST_REPLACEMENTS)
        for offset in range(tries):
            candidate = (index + offset) % len(self._source)
            try:
                sample = self._source.read(candidate)
                return sample, self._augmented(sample.signal, augmentation_rng(self._config.seed, epoch, index)), candidate
            except UNUSABLE as error:
                skipped.append(Skip(self._source.key(candidate), str(error)))
        raise DataError(f"none of {tries} samples in a row can be used; the last: {skipped[-1].reason}")

    def _prepare(self, signal: SignalLike) -> SignalLike:
        """What is the same in every epoch: of an image and of frames their resize, of a sound its rate and channels."""
        if self._source.modality == "audio":
            (values,) = self._preprocessing([signal])
            return values
        if isinstance(signal, Clip) and self._side is not None:
            return resized_clip(signal, self._config.crop, self._side, self._resizing)
        if not isinstance(signal, Image.Image) or self._side is None:
            return signal
        return self._config.crop.prepare(signal, self._side, self._resizing)

    def _augmented(self, prepared: SignalLike, rng: np.random.Generator) -> Tensor:
        """(C, *axes)."""
        if isinstance(prepared, Image.Image):
            return self._augmented_image(prepared, rng)
        if isinstance(prepared, Clip):
            return self._augmented_clip(prepared, rng)
        (values,) = self._preprocessing([prepared])
        values = values[self._cut(values.shape[1:], rng)]
        if self._config.flip and rng.random() < 0.5:
            values = values.flip(-1)
        return values[torch.from_numpy(rng.permutation(3))] if self._config.permute_colors else values

    def _cut(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, ...]:
        at_center = isinstance(self._config.crop, CenterCrop)
        return cut(shape, self._window or (None,) * len(shape), rng, at_center=at_center, frame_stride=self._config.frame_stride)

    def _augmented_clip(self, prepared: Clip, rng: np.random.Generator) -> Tensor:
        """The same for decoded clips, on their 8-bit values: what is cut away costs nothing more."""
        frames = prepared.frames[self._cut(prepared.frames.shape[:3], rng)[1:]]
        if self._config.flip and rng.random() < 0.5:
            frames = frames[:, :, ::-1]
        frames = frames[..., rng.permutation(3)] if self._config.permute_colors else frames
        if self._side is None:
            (values,) = self._preprocessing([replace(prepared, frames=np.ascontiguousarray(frames))])
        else:  # as a tensor, which keeps its size where the model takes any
            (values,) = self._preprocessing([torch.from_numpy(np.ascontiguousarray(frames.transpose(3, 0, 1, 2)))])
        return values

    def _augmented_image(self, prepared: Image.Image, rng: np.random.Generator) -> Tensor:
        """The same for decoded images, on their 8-bit values."""
        image = prepared if self._side is None else self._config.crop.cut(prepared, self._side, self._resizing, rng)
        mirrored = self._config.flip and rng.random() < 0.5
        pixels = np.asarray(ImageOps.mirror(image) if mirrored else image)
        pixels = pixels[:, :, rng.permutation(3)] if self._config.permute_colors else pixels
        if self._side is None:
            (values,) = self._preprocessing([Image.fromarray(np.ascontiguousarray(pixels))])
        else:  # as a tensor, which keeps its size where the model takes any
            (values,) = self._preprocessing([torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))])
        return values


def window_of(size: int | tuple[int, ...] | None, modality: str) -> tuple[int | None, ...] | None:
    """The units to cut along each axis, None for all.

    Raises:
        ConfigError: if the size has not one number per axis.
    """
    axes = AXES[modality]
    if size is None:
        return None
    if isinstance(size, int):
        return tuple(None if axis == "frames" else size for axis in axes)
    if len(size) != len(axes) or (modality == "image" and size[0] != size[1]):
        raise ConfigError(f"size {size} does not fit {modality}: give one number, or one for each of {', '.join(axes)}; images are cut to squares")
    return size


def side_of(window: tuple[int | None, ...] | None, modality: str) -> int | None:
    """Of the squares that images and frames are cut to; None where they are cut to none."""
    has_square = modality in ("image", "video") and window is not None and window[-1] == window[-2]
    return window[-1] if window is not None and has_square else None


def resized_clip(clip: Clip, crop: Crop, side: int, resizing: ImagePreprocessing) -> Clip:
    """A clip with its frames prepared by a crop for squares of a side."""
    return replace(clip, frames=np.stack([np.asarray(crop.prepare(Image.fromarray(frame), side, resizing)) for frame in clip.frames]))


def _check_augmentation(config: LoaderConfig, modality: str) -> None:
    """Raises ConfigError for what is defined for images only."""
    has_width = "width" in AXES[modality]
    for name, refused in (
        ("flip", config.flip and not has_width),
        ("permute_colors", config.permute_colors and not has_width),
        ("frame_stride", config.frame_stride != 1 and "frames" not in AXES[modality]),
        ("crop random_scale", isinstance(config.crop, RandomScaleCrop) and modality != "image"),
    ):
        if refused:
            of = "clips" if name == "frame_stride" else "images"
            raise ConfigError(f"{name} is an augmentation of {of}; this source holds {modality}")


def cut(
    shape: tuple[int, ...], window: tuple[int | None, ...], rng: np.random.Generator, *, at_center: bool, frame_stride: FrameStride = 1
) -> tuple[slice, ...]:
    """One slice per axis, and one for the channels before; along the first axis with a stride."""
    slices, stride = [slice(None)], _drawn_stride(shape[0], window[0], frame_stride, rng)
    for extent, size in zip(shape, window, strict=True):
        reach = None if size is None else (size - 1) * stride + 1
        spare = 0 if reach is None else max(extent - reach, 0)
        start = spare // 2 if at_center else int(rng.integers(spare + 1))
        slices.append(slice(start, extent if reach is None else min(start + reach, extent), stride))
        stride = 1
    return tuple(slices)


def _drawn_stride(extent: int, size: int | None, frame_stride: FrameStride, rng: np.random.Generator) -> int:
    """Between the two numbers, and none that leaves fewer than `size` where 1 leaves them."""
    drawn = frame_stride if isinstance(frame_stride, int) else int(rng.integers(frame_stride[0], frame_stride[1] + 1))
    return drawn if size is None or size == 1 else max(1, min(drawn, (extent - 1) // (size - 1)))
