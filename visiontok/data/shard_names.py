"""From a pattern such as `shard-{000..003}.tar` or `train/*.parquet` to files that exist."""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Iterator
from pathlib import Path

from visiontok.base.errors import DataError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_FILES = 1_000_000


def expand_shards(pattern: str, suffix: str) -> tuple[Path, ...]:
    """The files that a pattern names, in order.

    Args:
        pattern: a file, a folder (every file in it with the suffix), a shell pattern (*, ?, [...]), or a name with number ranges in braces,
            which keep their leading zeros.
        suffix: of the files, for example ".tar".

    Raises:
        DataError: if a named file does not exist, nothing matches, or the ranges name too many files.
    """
    paths = _find(str(Path(pattern).expanduser()), suffix)
    if not paths:
        raise DataError(f"{pattern!r} matches no {suffix} file")
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(f"{len(missing)} of the {len(paths)} files of {pattern!r} do not exist: {', '.join(missing[:3])}{more}")
    return paths


def _find(pattern: str, suffix: str) -> tuple[Path, ...]:
    path = Path(pattern)
    if path.is_dir():
        return tuple(sorted(file for file in path.iterdir() if file.suffix == suffix and not file.name.startswith(".")))
    ranges = _RANGE.findall(pattern)
    if ranges:
        if math.prod(int(high) - int(low) + 1 for low, high in ranges) > _MOST_FILES:
            raise DataError(f"{pattern!r} names more than {_MOST_FILES} files")
        return tuple(Path(name) for name in _ranges(pattern))
    if glob.has_magic(pattern) and not path.is_file():
        return tuple(sorted(Path(name) for name in glob.glob(pattern, recursive=True)))
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
