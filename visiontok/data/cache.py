"""Decoded pictures kept in memory, so that training on a small set is not bound by decoding them again every epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from PIL import Image

from visiontok.data.source import ImageSource, Sample


class CachedSource(ImageSource):
    """Another source with prepared pictures, which are kept until the budget is spent; later ones are read and prepared every time."""

    def __init__(self, source: ImageSource, prepare: Callable[[Image.Image], Image.Image], *, max_bytes: int) -> None:
        """`prepare` is deterministic; what it raises is raised by `read`."""
        self._source = source
        self._prepare = prepare
        self._left = max_bytes
        self._held: dict[int, Sample] = {}
        self.class_names = source.class_names
        self.skipped = source.skipped

    @property
    def identity(self) -> str:
        return self._source.identity

    def __len__(self) -> int:
        return len(self._source)

    def key(self, index: int) -> str:
        return self._source.key(index)

    def read(self, index: int) -> Sample:
        held = self._held.get(index)
        if held is not None:
            return held
        sample = self._source.read(index)
        sample = replace(sample, image=self._prepare(sample.image))
        size = 3 * sample.image.width * sample.image.height
        if size <= self._left:
            self._left -= size
            self._held[index] = sample
        return sample
