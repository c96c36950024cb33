"""Few files that are known by name, wherever they lie."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from visiontok.data.source import Source, fingerprint


class NamedFiles(Source):
    """Base of sources of such files, in the order of their names, which are the keys.

    Args:
        source: the name of the source.
        paths: by name.
    """

    def __init__(self, source: str, paths: Mapping[str, Path]) -> None:
        self._source, self._paths, self._names = source, paths, tuple(paths)

    @cached_property
    def identity(self) -> str:
        return fingerprint(self._source, len(self), [part for name, path in self._paths.items() for part in (name, path.read_bytes())])

    def __len__(self) -> int:
        return len(self._names)

    def key(self, index: int) -> str:
        return self._names[index]
