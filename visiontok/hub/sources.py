"""Where the files of a model come from: a local folder or a hub repository. `loading` reads both in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from visiontok.base.errors import HubError, VisiontokError

DamageT = TypeVar("DamageT", bound=VisiontokError)

STAGE_PREFIX = ".saving-"
"""The folder inside a model folder in which a save is prepared; it stays only where a save was killed."""


class FileAbsentError(HubError):
    """The source can be reached but does not hold the file."""


class ModelFiles(Protocol):
    """Holds the files of one model; its `str` names it in messages."""

    def get(self, filename: str) -> Path:
        """The local path of a file.

        Raises:
            FileAbsentError: if there is no such file.
            HubError: if it cannot be fetched.
        """

    def damaged(self, path: Path, error: DamageT) -> DamageT:
        """What to raise about a damaged file; where it is a copy, that is removed, so that the next load fetches it again."""


def first_of(source: ModelFiles, filenames: Sequence[str]) -> Path:
    """The first of several files that the source holds.

    Raises:
        FileAbsentError: if it holds none of them; the message is the first file's where there is only one.
    """
    absent = []
    for filename in filenames:
        try:
            return source.get(filename)
        except FileAbsentError as error:
            absent.append(error)
    if len(absent) == 1:
        raise absent[0]
    raise FileAbsentError(f"{source} holds none of {', '.join(filenames)}. {absent[0]}") from absent[0]


@dataclass(frozen=True)
class Folder:
    """A local folder in hub layout."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def is_interrupted(self) -> bool:
        """Whether a save was killed here: the weights are then the newest file that is surely whole, and carry their own configuration."""
        return any(self.path.glob(f"{STAGE_PREFIX}*"))

    def get(self, filename: str) -> Path:
        path = self.path / filename
        if not self.path.is_dir():
            raise FileAbsentError(f"there is no folder {self.path}")
        if path.exists() and not path.is_file():
            raise FileAbsentError(f"{path} is no regular file, so it cannot be read as the model's {filename}")
        if not path.is_file():
            held = ", ".join(sorted(entry.name for entry in self.path.iterdir())[:12])
            raise FileAbsentError(f"{self.path} holds no {filename} ({f'only {held}' if held else 'it is empty'})")
        return path

    def damaged(self, path: Path, error: DamageT) -> DamageT:
        return error
