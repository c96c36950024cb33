"""Image, video or sound files in a folder, flat or one folder per class."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Literal

from visiontok.base.config import Config
from visiontok.base.errors import DataError
from visiontok.base.modality import Modality
from visiontok.data.listing import class_folders, file_size, find_files, label_of, sources_in
from visiontok.data.media import MEDIA, SUFFIXES, FileModality, reader_of, sampled, the_medium
from visiontok.data.source import Sample, Source, fingerprint
from visiontok.signals.video_frames import FrameSampling


class FolderConfig(Config):
    """Image, video or sound files below a folder.

    Attributes:
        path: the folder. Files are found at any depth, by suffix; names that start with a dot are ignored, and other files are listed in
            `skipped`. Where every file lies in a sub-folder, the first-level folders are the classes, numbered in sorted order; otherwise there
            are no labels.
        modality: of the files that are meant; None where the folder holds only one kind.
        sampling: of clips, which of their frames are taken.
    """

    name: Literal["folder"] = "folder"
    modality: FileModality | None = None
    path: str
    sampling: FrameSampling = FrameSampling()


class FolderSource(Source):
    """Files in the sorted order of their paths within the folder; that path, with slashes, is the key."""

    def __init__(self, config: FolderConfig) -> None:
        self._root = Path(os.path.expanduser(config.path))
        wanted = SUFFIXES if config.modality is None else MEDIA[config.modality].suffixes
        self._keys, self.skipped = find_files(self._root, wanted)
        medium = the_medium(self._keys, where=f"the folder {self._root}", source="folder")
        if medium is None:
            nouns = [medium.noun for medium in MEDIA.values() if config.modality in (None, medium.modality)]
            skipped = f" ({len(self.skipped)} other files, such as {self.skipped[0].key}: {self.skipped[0].reason})" if self.skipped else ""
            others = sources_in(self._root)
            hint = f". For what it holds, write {' or '.join(others)}" if others else ""
            raise DataError(f"the folder {self._root} holds no {' and no '.join(nouns)}{skipped}; looked for {', '.join(sorted(wanted))}{hint}")
        self.modality: Modality = medium.modality
        self._read, self._sampling = reader_of(medium, config.sampling), config.sampling
        self.class_names = class_folders(self._keys)

    @cached_property
    def identity(self) -> str:
        return sampled(fingerprint("folder", len(self), (f"{key}\t{file_size(self._root / key)}" for key in self._keys)), self._sampling)

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        return self._keys[index]

    def read(self, index: int) -> Sample:
        key = self._keys[index]
        return Sample(key, self._read(self._root / key), label=label_of(key, self.class_names))
