"""Image files in a folder, flat or one folder per class."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Literal

from visiontok.base.config import Config
from visiontok.base.errors import DataError
from visiontok.base.modality import Modality
from visiontok.data.listing import class_folders, file_size, find_files, label_of, sources_in
from visiontok.data.source import Sample, Source, fingerprint
from visiontok.signals.image_reading import read_image

SUFFIXES = frozenset((".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))


class FolderConfig(Config):
    """Image files below a folder.

    Attributes:
        path: the folder. Files are found at any depth, by suffix; names that start with a dot are ignored, and other files are listed in
            `skipped`. Where every image lies in a sub-folder, the first-level folders are the classes, numbered in sorted order; otherwise there
            are no labels.
    """

    name: Literal["folder"] = "folder"
    path: str


class FolderSource(Source):
    """Images in the sorted order of their paths within the folder; that path, with slashes, is the key."""

    modality: Modality = "image"

    def __init__(self, config: FolderConfig) -> None:
        self._root = Path(os.path.expanduser(config.path))
        self._keys, self.skipped = find_files(self._root, SUFFIXES)
        if not self._keys:
            skipped = f" ({len(self.skipped)} other files, such as {self.skipped[0].key}: {self.skipped[0].reason})" if self.skipped else ""
            others = sources_in(self._root)
            hint = f". For what it holds, write {' or '.join(others)}" if others else ""
            raise DataError(f"the folder {self._root} holds no image{skipped}; looked for {', '.join(sorted(SUFFIXES))}{hint}")
        self.class_names = class_folders(self._keys)

    @cached_property
    def identity(self) -> str:
        return fingerprint("folder", len(self), (f"{key}\t{file_size(self._root / key)}" for key in self._keys))

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        return self._keys[index]

    def read(self, index: int) -> Sample:
        key = self._keys[index]
        return Sample(key, read_image(self._root / key), label=label_of(key, self.class_names))
