"""From a pattern such as `shard-{000..003}.tar` or `train/*.parquet` to files that exist."""

from __future__ import annotations

import glob
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from visiontok.base.errors import DataError, damage_as
from visiontok.base.printable import printable

_RANGE = re.compile(r"\{(\d{1,18})\.\.(\d{1,18})\}", re.ASCII)
_MOST_FILES = 1_000_000


def expand_shards(pattern: str, *suffixes: str) -> tuple[Path, ...]:
    """The files that a pattern names, in order.

    Args:
        pattern: a file, a folder (every file in it with one of the suffixes), a shell pattern (*, ?, [...]), or a name with number ranges in braces,
            which keep their leading zeros.
        suffixes: ends of the names of the files, in lower case, for example ".tar".

    Raises:
        DataError: if a named file does not exist, nothing matches, or the ranges name too many files.
    """
    paths = _find(os.path.expanduser(pattern), suffixes)
    if not paths:
        raise DataError(f"{pattern!r} matches no {suffixes[0]} file")
    missing = [str(path) for path in paths if not os.path.isfile(path)]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"{len(missing)} of the {len(paths)} files of {pattern!r} do not exist or are no regular files: {', '.join(missing[:3])}{more}"
        )
    return paths


def shard_labels(paths: Sequence[Path]) -> tuple[str, ...]:
    """What keys call each shard: its name without suffix; where names repeat, with the folders below the one that all shards share."""
    labels = [path.stem for path in paths]
    repeated = {label for label, count in Counter(labels).items() if count > 1}
    if repeated:
        shared = os.path.commonpath([path.absolute().parent for path in paths])
        within = [path.absolute().relative_to(shared) for path in paths]
        labels = [path.with_suffix("").as_posix() if label in repeated else label for label, path in zip(labels, within, strict=True)]
        ambiguous = {parent.as_posix() for label in labels for parent in PurePosixPath(label).parents}.intersection(labels)
        if ambiguous or len(set(labels)) < len(labels):  # sample 0/x of a.tar and sample x of a/0.tar; files that differ in suffix only
            labels = [path.as_posix() for path in within]
    return tuple(map(printable, labels))


def _find(pattern: str, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    path = Path(pattern)
    if os.path.isdir(path):
        with damage_as(DataError, f"the folder {pattern} cannot be read"):
            return tuple(sorted(file for file in path.iterdir() if file.name.lower().endswith(suffixes) and not file.name.startswith(".")))
    ranges = _RANGE.findall(pattern)
    if ranges:
        if math.prod(int(high) - int(low) + 1 for low, high in ranges) > _MOST_FILES:
            raise DataError(f"{pattern!r} names more than {_MOST_FILES} files")
        return tuple(Path(name) for name in _ranges(pattern))
    if glob.has_magic(pattern) and not os.path.isfile(path):
        return tuple(sorted({Path(name) for name in glob.glob(pattern, recursive=True)}))
    return (path,)


def _ranges(pattern: str) -> Iterator[str]:
    match = _RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    low, high = match.groups()
    for number in range(int(low), int(high) + 1):
        for rest in _ranges(pattern[match.end() :]):
            yield f"{pattern[: match.start()]}{number:0{len(low)}d}{rest}"
