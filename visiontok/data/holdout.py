"""Parts of a source, and which samples of the training data are held out for validation: those whose keys have the lowest hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from visiontok.data.source import Sample, Source, fingerprint

_HELD_OUT_SHARE = 20
"""At most one sample of so many is held out."""

_CHUNK = 2**16
"""Keys whose hashes are compared at once."""


class Subset(Source):
    """Some samples of a source, in its order."""

    def __init__(self, source: Source, indices: Sequence[int] | np.ndarray) -> None:
        self._source, self._indices = source, [int(index) for index in np.sort(np.asarray(indices, dtype=np.int64))]
        self.modality, self.class_names, self.skipped = source.modality, source.class_names, source.skipped

    @property
    def identity(self) -> str:
        return fingerprint("subset", len(self), [self._source.identity, *(str(index) for index in self._indices)])

    def __len__(self) -> int:
        return len(self._indices)

    def key(self, index: int) -> str:
        return self._source.key(self._indices[index])

    def read(self, index: int) -> Sample:
        return self._source.read(self._indices[index])


@dataclass(frozen=True, eq=False)
class Remaining:
    """The indices 0, 1, ..., total - 1 without a few of them, rising; they are computed rather than listed.

    Attributes:
        total: how many there are with those.
        without: (n,) int64 indices that are not among them, rising.
    """

    total: int
    without: np.ndarray

    def __len__(self) -> int:
        return self.total - len(self.without)

    def __getitem__(self, positions: np.ndarray | slice) -> np.ndarray:
        """The indices (n,) at these positions (n,)."""
        if isinstance(positions, slice):
            positions = np.arange(*positions.indices(len(self)))
        return positions + np.searchsorted(self.without - np.arange(len(self.without)), positions, side="right")


def lowest_hashes(keys: Iterable[str], count: int) -> np.ndarray:
    """Indices (n,) of the `count` keys with the lowest hashes, rising; equal keys stay together, so that there may be a few more.

    Whether a key is among them depends on the keys alone, not on their order, on a seed or on the machine. Only the lowest are kept in memory.
    """
    if count < 1:
        return np.arange(0)
    hashes, indices = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    remaining, first = iter(keys), 0
    while chunk := [_hash(key) for key in islice(remaining, _CHUNK)]:
        hashes = np.concatenate([hashes, np.asarray(chunk, dtype=np.uint64)])
        indices = np.concatenate([indices, np.arange(first, first + len(chunk))])
        first += len(chunk)
        if len(hashes) > count:
            low = hashes <= np.partition(hashes, count - 1)[count - 1]
            hashes, indices = hashes[low], indices[low]
    return indices


def hold_out(keys: Iterable[str], most: int, *, total: int) -> tuple[Remaining, np.ndarray]:
    """The indices to train on and those held out, both rising: by `lowest_hashes`, `most` or a twentieth of the samples, whichever is less.

    Args:
        keys: of all samples.
        most: samples held out.
        total: how many samples there are.

    Returns:
        Two that share no index; the second is empty for fewer than twenty samples.
    """
    held = lowest_hashes(keys, min(most, total // _HELD_OUT_SHARE))
    return Remaining(total, held), held


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "backslashreplace"), digest_size=8).digest(), "big")
