"""What every source of labelled pictures offers, whatever it is stored in."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image

from visiontok.data.skips import Skip


@dataclass(frozen=True)
class Sample:
    """One picture.

    Attributes:
        key: unique within its source, the same on every machine.
        image: 8-bit RGB; not to be changed in place, it may be cached.
        label: class, where the source has classes.
        caption: text, where the source has text.
        objects: how many the picture shows, where that is known.
    """

    key: str
    image: Image.Image
    label: int | None = None
    caption: str | None = None
    objects: int | None = None


class ImageSource(ABC):
    """A set of pictures with random access. Reading keeps no file open, so that a source can be used by several threads and processes.

    Attributes:
        class_names: one name per label, where they are known.
        skipped: what could not even be indexed, such as the rest of a truncated archive.
    """

    class_names: tuple[str, ...] | None = None
    skipped: tuple[Skip, ...] = ()

    @property
    @abstractmethod
    def identity(self) -> str:
        """A fingerprint of the listing (names and sizes, not places on disk) that result files carry: equal sets have equal identities."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def key(self, index: int) -> str:
        """The key of a sample, without reading it."""

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            SignalError: if its picture cannot be used.
            DataError: if its label or its storage is damaged.
        """


def fingerprint(kind: str, count: int, rows: Iterable[str | bytes]) -> str:
    """`kind-count-hash` over the rows of a listing."""
    digest = hashlib.sha256()
    for row in rows:
        data = row.encode() if isinstance(row, str) else row
        digest.update(len(data).to_bytes(8, "big") + data)
    return f"{kind}-{count}-{digest.hexdigest()[:16]}"
