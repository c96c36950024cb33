"""Generated samples on disk: folders of images or sounds, and the sample files (.npz) that ADM's script scores, of images or clips. Read in batches,
never whole."""

from __future__ import annotations

import math
import os
import re
import sys
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from visiontok.base.errors import EvaluationError, damage_as
from visiontok.data import SkipReport
from visiontok.data.folder import FolderConfig, FolderSource
from visiontok.data.media import MEDIA
from visiontok.data.skips import UNUSABLE, Skip
from visiontok.data.source import LARGEST_LABEL, checked_label
from visiontok.signals import AudioPreprocessing, ImagePreprocessing, SignalBatch, SignalSpec, VideoPreprocessing
from visiontok.signals.audio_reading import Sound

RGB_IMAGES, RGB_CLIPS = ImagePreprocessing().spec, VideoPreprocessing(frames=ImagePreprocessing()).spec

CLASS_OF_FILE = re.compile(r"-class-([0-9]+)$")
"""End of the file names of single images that contain the requested class."""

_ARRAYS = "uint8 (N, H, W, 3), or (N, T, H, W, 3) for clips"

GRID = "grid.png"
"""What `visiontok generate` writes beside its images."""


class Samples(ABC):
    """Generated images, clips or sounds, in the order of their files.

    Attributes:
        report: what could not be read so far.
        position: the sample behind the last batch that was read.
        classes: that were requested, one per sample; None where the files do not say.
    """

    report: SkipReport
    position: int = 0
    classes: Sequence[int] | None

    @property
    @abstractmethod
    def spec(self) -> SignalSpec:
        """Of the samples."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """A fingerprint of these samples, as far as one is possible without reading all of them."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self, size: int, *, start: int = 0) -> Iterator[tuple[SignalBatch, Tensor | None]]:
        """Images (B, 3, H, W) or clips (B, 3, T, H, W) uint8, or sounds (B, C, T), and the classes requested (B,) int64 or None.

        Args:
            size: of a batch.
            start: the first sample, for the rest of an interrupted run.

        Raises:
            EvaluationError: if images differ in size, or sounds in rate or channels, or the file is damaged.
        """

    @abstractmethod
    def read(self, rows: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Single samples (C, *axes) with their indices, which must rise; unreadable ones are skipped."""


def open_samples(path: str | Path) -> Samples:
    """A folder of images or sounds, or an .npz file.

    Raises:
        EvaluationError: if it is neither.
        DataError: if the folder holds neither, or both.
    """
    path = Path(path)
    if path.is_dir():
        return SampleFolder(path)
    if path.suffix == ".npz" and path.is_file():
        return SampleFile(path)
    raise EvaluationError(f"there are no samples in {path}; expected a folder of images or sounds, or an .npz file with arr_0 {_ARRAYS}")


class SampleFolder(Samples):
    """A file per sample; one that is broken is reported and skipped."""

    def __init__(self, folder: Path) -> None:
        self._source = FolderSource(FolderConfig(path=str(folder)))
        medium = next(medium for medium in MEDIA.values() if medium.modality == self._source.modality)
        if medium.modality not in ("image", "audio"):
            raise EvaluationError(f"{folder} holds {medium.noun}s; generated clips are read from an .npz file with arr_0 {_ARRAYS}")
        self._rows = [index for index in range(len(self._source)) if self._source.key(index) != GRID]
        found = [CLASS_OF_FILE.search(Path(self._source.key(index)).stem) for index in self._rows]
        classes = [checked_label(match[1].encode(), f"the name {match.string!r:.80}") for match in found if match]
        self.classes = [label for label in classes if label is not None] if all(found) else None
        damaged_names = [skip for skip in self._source.skipped if Path(skip.key).suffix.lower() in medium.suffixes]
        self.report = SkipReport(damaged_names, keep=sys.maxsize)

    @cached_property
    def spec(self) -> SignalSpec:
        """Of sounds by the first that can be read."""
        if self._source.modality == "image":
            return RGB_IMAGES
        for index in self._rows:
            with suppress(*UNUSABLE):
                sound = self._source.read(index).signal
                assert isinstance(sound, Sound)
                return AudioPreprocessing(sample_rate=sound.rate, channels=len(sound.samples)).spec
        raise EvaluationError(f"none of the {len(self)} sounds can be read; the first is {self._source.key(self._rows[0])}")

    @property
    def identity(self) -> str:
        return self._source.identity

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, size: int, *, start: int = 0) -> Iterator[tuple[SignalBatch, Tensor | None]]:
        for first in range(start, len(self), size):
            signals, classes = [], []
            self.position = min(first + size, len(self))
            for row in range(first, self.position):
                try:
                    signals.append(self._signal(row))
                except UNUSABLE as error:
                    self.report.update([Skip(self._source.key(self._rows[row]), str(error))])
                    continue
                classes.append(self.classes[row] if self.classes else 0)
            sizes = {tuple(signal.shape) for signal in signals}
            if len(sizes) > 1 and self.spec.modality == "image":
                raise EvaluationError(f"one folder holds samples of different sizes {sorted((*shape[1:], shape[0]) for shape in sizes)}")
            if signals:
                yield SignalBatch.stack(signals), torch.tensor(classes) if self.classes else None

    def read(self, rows: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        for row in rows:
            with suppress(*UNUSABLE):
                yield row, self._signal(row)

    def _signal(self, row: int) -> Tensor:
        """(3, H, W) uint8 of an image, (C, T) of a sound."""
        sample = self._source.read(self._rows[row])
        if not isinstance(sample.signal, Sound):
            return torch.from_numpy(np.array(sample.image)).movedim(-1, 0)
        sound = sample.signal
        if (float(sound.rate), len(sound.samples)) != (self.spec.rate, self.spec.channels):
            expected = f"{self.spec.rate:g} Hz and {self.spec.channels} channels, as the first has"
            raise EvaluationError(f"{sample.key} has {sound.rate} Hz and {len(sound.samples)} channels; expected {expected}")
        return torch.from_numpy(sound.samples).clamp(-1, 1)


class SampleFile(Samples):
    """`arr_0` uint8 (N, H, W, 3), of clips (N, T, H, W, 3), and the classes in `arr_1` (N,) where there is one, as the published samplers write
    them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _member(self._path, "arr_0") as (_, shape, dtype):
            self._shape = shape
        if dtype != np.uint8 or len(self._shape) not in (4, 5) or self._shape[-1] != 3 or min(self._shape) < 1:
            raise EvaluationError(f"arr_0 of {path} is {dtype} {self._shape}; expected {_ARRAYS}")
        stored = self._read_classes()
        self.classes = None if stored is None else stored.tolist()
        self.report = SkipReport()

    @property
    def spec(self) -> SignalSpec:
        return RGB_IMAGES if len(self._shape) == 4 else RGB_CLIPS

    @property
    def identity(self) -> str:
        with damage_as(EvaluationError, f"{self._path} cannot be read"), zipfile.ZipFile(self._path) as archive:
            return "/".join(f"{member.filename}:{member.file_size}:{member.CRC:08x}" for member in archive.infolist())

    def __len__(self) -> int:
        return int(self._shape[0])

    def batches(self, size: int, *, start: int = 0) -> Iterator[tuple[SignalBatch, Tensor | None]]:
        row_bytes = math.prod(self._shape[1:])
        with _member(self._path, "arr_0") as (file, _, _):
            if start:
                file.seek(start * row_bytes, os.SEEK_CUR)
            for first in range(start, len(self), size):
                count = min(size, len(self) - first)
                self.position = first + count
                data = file.read(count * row_bytes)
                if len(data) != count * row_bytes:
                    raise EvaluationError(f"{self._path} ends after {first} of {len(self)} samples")
                images = np.frombuffer(data, dtype=np.uint8).reshape(count, *self._shape[1:])
                yield SignalBatch.of(_channels_first(images)), None if self.classes is None else torch.tensor(self.classes[first : first + count])

    def read(self, rows: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        row_bytes, behind = math.prod(self._shape[1:]), 0
        with _member(self._path, "arr_0") as (file, _, _):
            for row in rows:
                file.seek((row - behind) * row_bytes, os.SEEK_CUR)
                behind = row + 1
                yield row, _channels_first(np.frombuffer(file.read(row_bytes), dtype=np.uint8).reshape(1, *self._shape[1:]))[0]

    def _read_classes(self) -> Tensor | None:
        with damage_as(EvaluationError, f"arr_1 of {self._path} cannot be read"), np.load(self._path, allow_pickle=False) as arrays:
            if "arr_1" not in arrays.files:
                return None
            classes = arrays["arr_1"]
        if not isinstance(classes, np.ndarray):
            raise EvaluationError(f"arr_1 of {self._path} is no array; expected one class for each of {len(self)} samples")
        if classes.shape != (len(self),) or not np.issubdtype(classes.dtype, np.integer):
            raise EvaluationError(f"arr_1 of {self._path} is {classes.dtype} {classes.shape}; expected one class for each of {len(self)} samples")
        if int(classes.min()) < 0 or int(classes.max()) > LARGEST_LABEL:
            raise EvaluationError(f"arr_1 of {self._path} holds classes from {classes.min()} to {classes.max()}; expected 0 to {LARGEST_LABEL}")
        return torch.from_numpy(classes.astype(np.int64))


@contextmanager
def _member(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
    """One array of an .npz file, opened behind its header: (file, shape, dtype).

    Raises:
        EvaluationError: if there is none, or it turns out to be damaged while it is read.
    """
    with (
        damage_as(EvaluationError, f"{path} holds no readable array {name}"),
        zipfile.ZipFile(path) as archive,
        archive.open(f"{name}.npy") as file,
    ):
        version = np.lib.format.read_magic(file)
        read: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if fortran:
            raise EvaluationError(f"{name} of {path} is stored column by column; write it again in C order")
        yield file, shape, dtype


def _channels_first(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.moveaxis(images, -1, 1).copy())
