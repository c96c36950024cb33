"""Which samples a suite evaluates: the whole source, some of it, or tiles cut out of its images."""

from __future__ import annotations

import numpy as np

from visiontok.base.errors import DataError
from visiontok.data import Sample, Source
from visiontok.data.holdout import Subset
from visiontok.data.skips import UNUSABLE, Skip
from visiontok.data.source import MappedSource, fingerprint
from visiontok.evaluation.features.protocol import Protocol


class Tiles(Source):
    """Squares cut side by side out of every image at its own resolution, the grid centered; what remains at the borders is not evaluated.

    Every image is read once beforehand to learn its size; images that are smaller than a tile, or unreadable, are reported as skipped.
    """

    def __init__(self, source: Source, size: int) -> None:
        self._source, self._size = source, size
        self.modality, self.class_names = source.modality, source.class_names
        self._corners: list[tuple[int, int, int]] = []
        skipped = list(source.skipped)
        for index in range(len(source)):
            try:
                width, height = source.read(index).image.size
            except UNUSABLE as error:
                skipped.append(Skip(source.key(index), str(error)))
                continue
            if min(width, height) < size:
                skipped.append(Skip(source.key(index), f"{width} x {height} pixels contain no tile of {size} x {size}"))
            top, left = height % size // 2, width % size // 2
            self._corners += [(index, top + row * size, left + column * size) for row in range(height // size) for column in range(width // size)]
        self.skipped = tuple(skipped)
        if not self._corners:
            raise DataError(f"no image of this source holds a tile of {size} x {size} pixels; choose a smaller size")

    @property
    def identity(self) -> str:
        return fingerprint(f"tiles{self._size}", len(self), [self._source.identity, *(str(corner) for corner in self._corners)])

    def __len__(self) -> int:
        return len(self._corners)

    def key(self, index: int) -> str:
        image, top, left = self._corners[index]
        return f"{self._source.key(image)}@{top},{left}"

    def read(self, index: int) -> Sample:
        image, top, left = self._corners[index]
        sample = self._source.read(image)
        tile = sample.image.crop((left, top, left + self._size, top + self._size))
        return Sample(self.key(index), tile, label=sample.label, caption=sample.caption)


class Cropped(MappedSource):
    """Every image cut as a published protocol cuts it, to `size` x `size`; where it cuts nothing, images of another size cannot be used."""

    def __init__(self, source: Source, protocol: Protocol, size: int) -> None:
        super().__init__(source)
        self._protocol, self._size = protocol, size

    @property
    def identity(self) -> str:
        return fingerprint(f"{self._protocol.name}{self._size}", len(self), [self._source.identity, self._protocol.identity])

    def read(self, index: int) -> Sample:
        sample = self._source.read(index)
        image = self._protocol.prepare(sample.image, self._size)
        if image.size != (self._size, self._size):
            width, height = image.size
            raise DataError(f"the protocol {self._protocol.name} cuts nothing, and this image has {width} x {height} pixels, not {self._size}")
        return Sample(sample.key, image, label=sample.label, caption=sample.caption)


def choose(source: Source, count: int | None, *, seed: int) -> Source:
    """`count` samples drawn from the source with a seed; all of them for None.

    Raises:
        DataError: if it holds fewer.
    """
    if count is None or count == len(source):
        return source
    if count > len(source):
        raise DataError(f"{count} samples were requested, but the source holds {len(source)}")
    return Subset(source, np.random.default_rng(seed).permutation(len(source))[:count])
