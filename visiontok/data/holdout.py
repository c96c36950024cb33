"""Parts of a source, and which samples of the training data are held out for validation: those whose keys have the lowest hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from visiontok.data.source import Sample, Source, fingerprint

_HELD_OUT_SHARE = 20
"""At most one sample of so many is held out."""


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


def lowest_hashes(keys: Iterable[str], count: int) -> np.ndarray:
    """Indices (n,) of the `count` keys with the lowest hashes, rising; equal keys stay together, so that there may be a few more.

    Whether a key is among them depends on the keys alone, not on their order, on a seed or on the machine.
    """
    digests = (hashlib.blake2b(key.encode("utf-8", "backslashreplace"), digest_size=8).digest() for key in keys)
    hashes = np.asarray([int.from_bytes(digest, "big") for digest in digests], dtype=np.uint64)
    if not 0 < count < len(hashes):
        return np.arange(len(hashes) if count else 0)
    return np.flatnonzero(hashes <= np.partition(hashes, count - 1)[count - 1])


def hold_out(keys: Sequence[str], most: int) -> tuple[np.ndarray, np.ndarray]:
    """The indices to train on and those held out, both rising: by `lowest_hashes`, `most` or a twentieth of the samples, whichever is less.

    Args:
        keys: of all samples.
        most: samples held out.

    Returns:
        Two arrays that share no index; the second is empty for fewer than twenty samples.
    """
    held = lowest_hashes(keys, min(most, len(keys) // _HELD_OUT_SHARE))
    return np.setdiff1d(np.arange(len(keys)), held), held
