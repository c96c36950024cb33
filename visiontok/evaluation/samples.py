"""Generated pictures on disk: folders of pictures, and the sample files (.npz) that ADM's script scores. Read in batches, never whole."""

from __future__ import annotations

import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from visiontok.data import SkipReport
from visiontok.data.folder import FolderConfig, FolderSource
from visiontok.data.skips import UNUSABLE, Skip
from visiontok.errors import EvaluationError

CLASS_OF_FILE = re.compile(r"-class-(\d+)$")
"""How file names of single pictures end that say which class was asked for."""

GRID = "grid.png"
"""What `visiontok generate` writes beside its pictures."""


class Samples(ABC):
    """Generated pictures, in the order of their files.

    Attributes:
        report: what could not be read so far.
    """

    report: SkipReport

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Pictures (B, 3, H, W) uint8, and the classes asked for (B,) int64 or None.

        Raises:
            EvaluationError: if pictures of different sizes meet, or the file is damaged.
        """


def open_samples(path: str | Path) -> Samples:
    """A folder of pictures or an .npz file.

    Raises:
        EvaluationError: if it is neither.
        DataError: if the folder holds no picture.
    """
    path = Path(path)
    if path.is_dir():
        return SampleFolder(path)
    if path.suffix == ".npz" and path.is_file():
        return SampleFile(path)
    raise EvaluationError(f"there are no samples in {path}; expected a folder of pictures, or an .npz file with arr_0 uint8 (N, H, W, 3)")


class SampleFolder(Samples):
    """Picture files; one that is broken is reported and left out."""

    def __init__(self, folder: Path) -> None:
        self._source = FolderSource(FolderConfig(path=str(folder)))
        self._places = [place for place in range(len(self._source)) if self._source.key(place) != GRID]
        found = [CLASS_OF_FILE.search(Path(self._source.key(place)).stem) for place in self._places]
        self._classes = [int(match[1]) for match in found if match] if all(found) else None
        self.report = SkipReport()

    def __len__(self) -> int:
        return len(self._places)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        for start in range(0, len(self), size):
            pictures, classes = [], []
            for row in range(start, min(start + size, len(self))):
                try:
                    pictures.append(np.asarray(self._source.read(self._places[row]).image))
                except UNUSABLE as error:
                    self.report.update([Skip(self._source.key(self._places[row]), str(error))])
                    continue
                classes.append(self._classes[row] if self._classes else 0)
            sizes = {picture.shape for picture in pictures}
            if len(sizes) > 1:
                raise EvaluationError(f"samples of different sizes {sorted(sizes)} lie in one folder")
            if pictures:
                yield _channels_first(np.stack(pictures)), torch.tensor(classes) if self._classes else None


class SampleFile(Samples):
    """`arr_0` uint8 (N, H, W, 3), and the classes in `arr_1` (N,) where there is one, as the published samplers write them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._member("arr_0") as (_, shape, dtype):
            self._shape = shape
        if dtype != np.uint8 or len(self._shape) != 4 or self._shape[3] != 3:
            raise EvaluationError(f"arr_0 of {path} is {dtype} {self._shape}; expected uint8 (N, H, W, 3)")
        self._classes = self._read_classes()
        self.report = SkipReport()

    def __len__(self) -> int:
        return int(self._shape[0])

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        row_bytes = int(np.prod(self._shape[1:]))
        with self._member("arr_0") as (file, _, _):
            for start in range(0, len(self), size):
                count = min(size, len(self) - start)
                try:
                    data = file.read(count * row_bytes)
                except (zipfile.BadZipFile, OSError) as error:
                    raise EvaluationError(f"{self._path} is damaged: {error}") from error
                if len(data) != count * row_bytes:
                    raise EvaluationError(f"{self._path} ends after {start} of {len(self)} samples")
                pictures = np.frombuffer(data, dtype=np.uint8).reshape(count, *self._shape[1:])
                yield _channels_first(pictures), None if self._classes is None else self._classes[start : start + count]

    def _read_classes(self) -> Tensor | None:
        try:
            with np.load(self._path, allow_pickle=False) as arrays:
                if "arr_1" not in arrays.files:
                    return None
                classes = arrays["arr_1"]
        except (ValueError, zipfile.BadZipFile, OSError) as error:
            raise EvaluationError(f"arr_1 of {self._path} cannot be read: {error}") from error
        if classes.shape != (len(self),) or not np.issubdtype(classes.dtype, np.integer):
            raise EvaluationError(f"arr_1 of {self._path} is {classes.dtype} {classes.shape}; expected one class for each of {len(self)} samples")
        return torch.from_numpy(classes.astype(np.int64))

    def _member(self, name: str) -> _Member:
        return _Member(self._path, name)


class _Member:
    """One array of an .npz file, opened behind its header: gives (file, shape, dtype)."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name

    def __enter__(self) -> tuple[IO[bytes], tuple[int, ...], np.dtype]:
        try:
            self._archive = zipfile.ZipFile(self._path)
            self._file = self._archive.open(f"{self._name}.npy")
            version = np.lib.format.read_magic(self._file)
            read: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(self._file)
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise EvaluationError(f"{self._path} is not a sample file with an array {self._name}: {error}") from error
        if fortran:
            raise EvaluationError(f"{self._name} of {self._path} is stored column by column; write it again in C order")
        return self._file, shape, dtype

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._archive.close()


def _channels_first(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())
