"""Decoded pictures kept in memory, so that training on a small set is not bound by decoding it again every epoch."""

from __future__ import annotations

from visiontok.data.source import ImageSource, Sample


class CachedSource(ImageSource):
    """Another source, whose samples stay decoded until the budget is spent; later ones are read every time."""

    def __init__(self, source: ImageSource, *, max_bytes: int) -> None:
        self._source = source
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
        size = 3 * sample.image.width * sample.image.height
        if size <= self._left:
            self._left -= size
            self._held[index] = sample
        return sample
