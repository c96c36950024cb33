"""What the fuzzer knows of one reader."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias


class Special(Enum):
    """What can lie where a file is expected."""

    FOLDER = "folder"
    FIFO = "fifo"
    ENDLESS = "endless"
    LOOP = "loop"
    NOWHERE = "nowhere"


Files: TypeAlias = dict[str, "bytes | Special"]
"""An input: contents by path within its folder, with slashes."""


@dataclass(frozen=True)
class Entry:
    """One reader of files.

    Attributes:
        name: of the entry.
        bases: makes valid inputs, always the same.
        read: reads the input in a folder. Returns nothing; raises one of the library's errors, or AssertionError for a result that is wrong.
        cases: how many inputs a test run tries.
        mutable: which files are damaged; None for all.
        documented: errors beside the library's own that the reader's documentation names.
    """

    name: str
    bases: Callable[[], Sequence[Files]]
    read: Callable[[Path], None]
    cases: int
    mutable: Callable[[str], bool] | None = None
    documented: tuple[type[Exception], ...] = ()


def write_files(folder: Path, files: Files) -> None:
    """Put an input on disk. Names that the file system refuses are left out."""
    for name, content in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, content)
        except (OSError, ValueError):
            continue


def _write(path: Path, content: bytes | Special) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is Special.FOLDER:
        path.mkdir()
    elif content is Special.FIFO:
        os.mkfifo(path)
    elif content is Special.ENDLESS:
        path.symlink_to("/dev/zero")
    elif content is Special.LOOP:
        path.symlink_to(path.name)
    else:
        path.symlink_to("gone")


def read_files(folder: Path) -> Files:
    """The input that lies in a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def emptied(folder: Path) -> Path:
    """The folder, new."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
