"""Signals as NumPy arrays: sound, depth maps, clips, precomputed features."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.errors import DataError, SignalError, damage_as
from visiontok.base.files import check_regular
from visiontok.base.modality import AXES, Modality
from visiontok.base.npz import read_npz
from visiontok.base.printable import as_unicode, printable
from visiontok.data.listing import class_folders, file_size, find_files, label_of
from visiontok.data.skips import Skip
from visiontok.data.source import Sample, Source, checked_label, fingerprint
from visiontok.signals import SignalLike
from visiontok.signals.preprocessing import tensor_of

_ARRAYS = {"signals", "sizes", "labels", "captions", "keys", "class_names"}


class ArraysConfig(Config):
    """Signals (C, *axes) as NumPy arrays.

    Attributes:
        path: an .npz file with the array `signals` (N, C, *axes) and, where there are any, `sizes` (N, number of axes) with the exact size of every
            signal, `labels` (N,) with negative numbers for no label, `captions` (N,), `keys` (N,) and `class_names`; or a folder with one signal in
            every .npy file, at any depth, whose first-level folders are the classes if every file lies in one.
        modality: of the signals.
        rate: samples per second of sound; tokenizers of another rate refuse it. None where it is not known.
    """

    name: Literal["arrays"] = "arrays"
    path: str
    modality: Modality
    rate: float | None = Field(default=None, gt=0)


class ArraysSource(Source):
    """Signals as tensors. Files of a folder are read when they are requested; an .npz file is held in memory."""

    def __init__(self, config: ArraysConfig) -> None:
        self.modality = config.modality
        self._rate = config.rate
        path = Path(os.path.expanduser(config.path))
        self._arrays: _Folder | _Archive = _Folder(path) if os.path.isdir(path) else _Archive(path, config.modality)
        self.class_names, self.skipped = self._arrays.class_names, self._arrays.skipped

    @cached_property
    def identity(self) -> str:
        return fingerprint(f"arrays-{self.modality}", len(self), self._arrays.listing())

    def __len__(self) -> int:
        return len(self._arrays.keys)

    def key(self, index: int) -> str:
        return self._arrays.keys[index]

    def read(self, index: int) -> Sample:
        values = self._arrays.signal(index)
        signal: SignalLike = values
        if self.modality == "audio" and self._rate is not None:
            signal = {"array": values, "sampling_rate": self._rate}
        return Sample(self.key(index), signal, label=self._arrays.label(index), caption=self._arrays.caption(index))


def read_array(path: Path) -> Tensor:
    """The array of an .npy file.

    Raises:
        SignalError: if there is none, or it is damaged.
    """
    with damage_as(SignalError, f"{path} is not a NumPy array (.npy), or is damaged"):
        mapped = np.load(check_regular(path), mmap_mode="r", allow_pickle=False)  # a header that declares more than the file holds is an error
        return tensor_of(np.array(mapped), str(path))


class _Folder:
    """One file per signal."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.keys, self.skipped = find_files(root, frozenset((".npy",)))
        if not self.keys:
            raise DataError(f"the folder {root} holds no .npy file")
        self.class_names = class_folders(self.keys)

    def listing(self) -> list[str]:
        return [f"{key}\t{file_size(self._root / key)}" for key in self.keys]

    def signal(self, index: int) -> Tensor:
        return read_array(self._root / self.keys[index])

    def label(self, index: int) -> int | None:
        return label_of(self.keys[index], self.class_names)

    def caption(self, index: int) -> str | None:
        return None


class _Archive:
    """All signals in one file, padded to one size."""

    skipped: tuple[Skip, ...] = ()

    def __init__(self, path: Path, modality: Modality) -> None:
        try:
            arrays = read_npz(path)
        except FileNotFoundError as error:
            raise DataError(f"there is no file or folder {path}") from error
        except ValueError as error:
            raise DataError(str(error)) from error
        unknown = set(arrays) - _ARRAYS
        if "signals" not in arrays or unknown:
            raise DataError(f"{path} holds the arrays {sorted(arrays)}; expected signals and, where there are any, {sorted(_ARRAYS - {'signals'})}")
        self._signals = arrays["signals"]
        axes = AXES[modality]
        if self._signals.ndim != 2 + len(axes) or not len(self._signals) or self._signals.dtype.kind not in "biuf":
            found = f"{self._signals.dtype} {self._signals.shape}"
            raise DataError(f"{path}: signals of {modality} are numbers of shape (N, C, {', '.join(axes)}), got {found}")
        for name, kinds, what in (("labels", "iu", "whole numbers"), ("captions", "U", "texts"), ("keys", "Uiu", "texts or whole numbers")):
            if name in arrays and (arrays[name].shape != self._signals.shape[:1] or arrays[name].dtype.kind not in kinds):
                found = f"{arrays[name].dtype} {arrays[name].shape}"
                raise DataError(f"{path}: {name} must be {what}, one for each of {len(self._signals)} signals, got {found}")
        names = arrays.get("class_names")
        if names is not None and (names.ndim != 1 or names.dtype.kind != "U"):
            raise DataError(f"{path}: class_names must be texts of shape (K,), got {names.dtype} {names.shape}")
        self._sizes = arrays.get("sizes")
        if self._sizes is not None:
            wrong = self._sizes.shape != (len(self._signals), len(axes)) or self._sizes.dtype.kind not in "iu"
            if wrong or (self._sizes < 1).any() or (self._sizes > self._signals.shape[2:]).any():
                raise DataError(f"{path}: sizes must be whole numbers (N, {len(axes)}) from 1 to {self._signals.shape[2:]}")
        self._labels, self._captions = arrays.get("labels"), arrays.get("captions")
        keys = arrays.get("keys", [f"{index:06d}" for index in range(len(self._signals))])
        self.keys = tuple(printable(str(key)) for key in keys)
        if len(set(self.keys)) != len(self.keys):
            raise DataError(f"{path}: keys are not unique")
        self.class_names = None if names is None else tuple(printable(str(name)) for name in names)
        self._arrays = arrays

    def listing(self) -> list[bytes]:
        return [part for name in sorted(self._arrays) for part in (name.encode(), self._arrays[name].tobytes())]

    def signal(self, index: int) -> Tensor:
        values = self._signals[index]
        if self._sizes is not None:
            exact = (slice(None), *(slice(int(size)) for size in self._sizes[index]))
            values = values[exact]
        return tensor_of(values, self.keys[index])

    def label(self, index: int) -> int | None:
        return None if self._labels is None else checked_label(int(self._labels[index]), f"the label of {self.keys[index]}")

    def caption(self, index: int) -> str | None:
        return None if self._captions is None else as_unicode(str(self._captions[index]))
