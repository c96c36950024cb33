"""Picture files in a folder, flat or one folder per class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

from visiontok.base.config import Config
from visiontok.base.errors import DataError
from visiontok.data.source import ImageSource, Sample, fingerprint
from visiontok.signals.image_reading import read_image

SUFFIXES = frozenset((".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))


class FolderConfig(Config):
    """Picture files below a folder.

    Attributes:
        path: the folder. Files are found at any depth, by suffix; names that start with a dot are left out. Where every picture lies in a
            sub-folder, the first-level folders are the classes, numbered in sorted order; otherwise there are no labels.
    """

    name: Literal["folder"] = "folder"
    path: str


class FolderSource(ImageSource):
    """Pictures in the sorted order of their paths within the folder; that path, with slashes, is the key."""

    def __init__(self, config: FolderConfig) -> None:
        self._root = Path(config.path).expanduser()
        if not self._root.is_dir():
            raise DataError(f"there is no folder {self._root}")
        self._keys = tuple(sorted(path.relative_to(self._root).as_posix() for path in _pictures(self._root, frozenset())))
        if not self._keys:
            raise DataError(f"the folder {self._root} holds no picture; looked for {', '.join(sorted(SUFFIXES))}")
        if all("/" in key for key in self._keys):
            self.class_names = tuple(sorted({_top(key) for key in self._keys}))
        self._labels = {name: label for label, name in enumerate(self.class_names or ())}

    @cached_property
    def identity(self) -> str:
        return fingerprint("folder", len(self), (f"{key}\t{_size(self._root / key)}" for key in self._keys))

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        return self._keys[index]

    def read(self, index: int) -> Sample:
        key = self._keys[index]
        return Sample(key, read_image(self._root / key), label=self._labels.get(_top(key)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a link that leads nowhere is listed, and skipped when it is read
        return -1


def _top(key: str) -> str:
    return key.split("/", 1)[0]


def _pictures(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Follow links to folders, but never back into a folder that lies above."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read: {error}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _pictures(folder / entry.name, above | {here})
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield folder / entry.name
