"""The files below a folder, and the classes that its sub-folders are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from visiontok.base.errors import DataError
from visiontok.base.printable import printable
from visiontok.data.skips import Skip

_OTHER_SOURCES = {".tar": "webdataset:{path}", ".parquet": "parquet:{path}", ".npy": "arrays:MODALITY:{path}"}


def find_files(root: Path, suffixes: frozenset[str]) -> tuple[tuple[str, ...], tuple[Skip, ...]]:
    """The files below a folder.

    Args:
        root: the folder. Names in it that start with a dot are ignored.
        suffixes: of the files that are wanted, in lower case.

    Returns:
        Paths of all files with one of the suffixes, at any depth, relative to `root`, with slashes, sorted; and the other files: those with another
        suffix, and those whose names are not UTF-8 or hold control characters, which no key does.

    Raises:
        DataError: if there is no such folder, or one cannot be read.
    """
    if not os.path.isdir(root):
        raise DataError(f"there is no folder {printable(str(root))}")
    keys, skipped = [], []
    for name in sorted(path.relative_to(root).as_posix() for path in _walk(root)):
        if printable(name) != name:
            skipped.append(Skip(name, "the file's name is not UTF-8, or holds control characters: rename it"))
        elif os.path.splitext(name)[1].lower() not in suffixes:
            skipped.append(Skip(name, f"the file's suffix is none of {', '.join(sorted(suffixes))}"))
        else:
            keys.append(name)
    return tuple(keys), tuple(skipped)


def holds_any(root: Path, suffixes: frozenset[str]) -> bool:
    """Whether a file with one of the suffixes lies in the folder, at any depth."""
    return any(path.suffix.lower() in suffixes for path in _walk(root))


def sources_in(root: Path) -> list[str]:
    """How to name what lies in a folder beside images: `webdataset:PATH` for tar shards, `parquet:PATH`, `arrays:MODALITY:PATH`."""
    found = []
    for suffix, form in _OTHER_SOURCES.items():
        if any(path.suffix == suffix for path in root.iterdir()):
            found.append(form.format(path=root))
        elif holds_any(root, frozenset([suffix])):
            found.append(form.format(path=root if suffix == ".npy" else f"{root}/**/*{suffix}"))
    return found


def class_folders(keys: Sequence[str]) -> tuple[str, ...] | None:
    """The first-level folders in sorted order, where every file lies in one."""
    return tuple(sorted({_top(key) for key in keys})) if all("/" in key for key in keys) else None


def label_of(key: str, classes: tuple[str, ...] | None) -> int | None:
    """The class of a file, where folders are classes."""
    return None if classes is None else classes.index(_top(key))


def file_size(path: Path) -> int:
    """In bytes; -1 for a link that leads nowhere, which is listed, and skipped when it is read."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _top(key: str) -> str:
    return key.split("/", 1)[0]


def _walk(root: Path) -> Iterator[Path]:
    """All files. Follow links to folders, but never back into a folder that lies above."""
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        try:
            status = folder.stat()
            here = (status.st_dev, status.st_ino)
            if here in above:
                continue
            entries = list(os.scandir(folder))
        except OSError as error:
            raise DataError(f"the folder {printable(str(folder))} cannot be read: {error.strerror or error}") from error
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                waiting.append((folder / entry.name, above | {here}))
            else:
                yield folder / entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Also a link to one; a link that leads to itself is listed as a file, and skipped when it is read."""
    try:
        return entry.is_dir()
    except OSError:
        return False
