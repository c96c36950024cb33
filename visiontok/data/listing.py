"""The files below a folder, and the classes that its sub-folders are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from visiontok.base.errors import DataError
from visiontok.data.skips import Skip, printable

_OTHER_SOURCES = {".tar": "webdataset:{path}", ".parquet": "parquet:{path}", ".npy": "arrays:MODALITY:{path}"}


def find_files(root: Path, suffixes: frozenset[str]) -> tuple[str, ...]:
    """Paths of all files with one of the suffixes, at any depth, relative to `root`, with slashes, sorted; names that start with a dot are ignored.

    Raises:
        DataError: if there is no such folder, or one cannot be read.
    """
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    return tuple(sorted(path.relative_to(root).as_posix() for path in _walk(root, suffixes, frozenset())))


def holds_any(root: Path, suffixes: frozenset[str]) -> bool:
    """Whether a file with one of the suffixes lies in the folder, at any depth."""
    return next(_walk(root, suffixes, frozenset()), None) is not None


def sources_in(root: Path) -> list[str]:
    """How to name what lies in a folder beside images: `webdataset:PATH` for tar shards, `parquet:PATH`, `arrays:MODALITY:PATH`."""
    found = []
    for suffix, form in _OTHER_SOURCES.items():
        if any(path.suffix == suffix for path in root.iterdir()):
            found.append(form.format(path=root))
        elif holds_any(root, frozenset([suffix])):
            found.append(form.format(path=root if suffix == ".npy" else f"{root}/**/*{suffix}"))
    return found


def split_undecodable(keys: Sequence[str]) -> tuple[tuple[str, ...], tuple[Skip, ...]]:
    """The names that are UTF-8, and the others, which no key can hold."""
    good = tuple(key for key in keys if printable(key) == key)
    return good, tuple(Skip(printable(key), "the file's name is not UTF-8: rename it") for key in keys if printable(key) != key)


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


def _walk(folder: Path, suffixes: frozenset[str], above: frozenset[tuple[int, int]]) -> Iterator[Path]:
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
            yield from _walk(folder / entry.name, suffixes, above | {here})
        elif os.path.splitext(entry.name)[1].lower() in suffixes:
            yield folder / entry.name
