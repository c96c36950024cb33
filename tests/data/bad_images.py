"""Images for the tests of the sources: a good one, and the bad ones that sets are full of."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from visiontok.base.errors import SignalError
from visiontok.data import Sample, Source


def encoded(seed: int = 0, kind: str = "PNG", size: tuple[int, int] = (24, 16)) -> bytes:
    """A file of noise, different for every seed."""
    buffer = io.BytesIO()
    image(seed, size).save(buffer, kind)
    return buffer.getvalue()


def image(seed: int = 0, size: tuple[int, int] = (24, 16)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


BAD = {"empty": b"", "text": b"not an image", "truncated": encoded(1)[:200]}


class ListSource(Source):
    """Images in memory; None is one that cannot be read."""

    modality = "image"

    def __init__(self, images: list[Image.Image | None], *, labels: bool = True) -> None:
        self.images, self.labels = images, labels
        self.reads = 0

    @property
    def identity(self) -> str:
        return f"list-{len(self)}"

    def __len__(self) -> int:
        return len(self.images)

    def key(self, index: int) -> str:
        return f"item-{index}"

    def read(self, index: int) -> Sample:
        self.reads += 1
        found = self.images[index]
        if found is None:
            raise SignalError(f"{self.key(index)} is damaged")
        return Sample(self.key(index), found, label=index % 3 if self.labels else None, caption=f"number {index}")
