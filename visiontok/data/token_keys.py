"""The keys of token sets: read from their shards, and unique in a set."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from visiontok.base.errors import DataError, damage_as

_BUCKETS = 64


def read_keys(path: Path) -> Iterator[list[str]]:
    """The keys of every row group of a shard.

    Raises:
        DataError: if the file is damaged.
    """
    with damage_as(DataError, f"the keys of {path} cannot be read; delete it and make it again"), pq.ParquetFile(path, memory_map=True) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=["key"], use_threads=False)["key"].to_pylist()


def check_keys(paths: Sequence[Path]) -> None:
    """Every sample of a set has a key of its own.

    Args:
        paths: of the shards.

    Raises:
        DataError: naming the first key that is repeated and the shards that hold it.
    """
    repeated = _repeated(np.fromiter(map(hash, keys), dtype=np.int64, count=len(keys)) for path in paths for keys in read_keys(path))
    if not repeated:
        return
    seen: dict[str, Path] = {}
    for path in paths:
        for keys in read_keys(path):
            for key in keys:
                if hash(key) not in repeated:
                    continue
                if key in seen:
                    where = f"twice in {path}" if seen[key] == path else f"in {seen[key]} and in {path}"
                    raise DataError(f"the key {key!r} is {where}: every sample has a key of its own. Remove one of the two, or make the set again")
                seen[key] = path


def _repeated(parts: Iterator[np.ndarray]) -> set[int]:
    """The hashes (n,) int64 that occur more than once. They are divided among temporary files, of which one is in memory at a time."""
    found: set[int] = set()
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(_BUCKETS)]
        for hashes in parts:
            bucket = hashes % _BUCKETS
            for number in np.unique(bucket).tolist():
                files[number].write(hashes[bucket == number].tobytes())
        for file in files:
            file.seek(0)
            hashes = np.sort(np.frombuffer(file.read(), dtype=np.int64))
            found.update(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    return found
