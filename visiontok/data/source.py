"""What every source of signals offers, whatever it is stored in."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image

from visiontok.base.errors import DataError, SignalError
from visiontok.base.modality import Modality
from visiontok.data.skips import Skip
from visiontok.signals import SignalLike

LARGEST_LABEL = 2**63 - 1
_MOST_DIGITS = 100  # Python refuses to convert thousands of digits


@dataclass(frozen=True)
class Sample:
    """One signal and what is known about it.

    Attributes:
        key: unique within its source, the same on every machine.
        signal: what the tokenizer's `Preprocessing` takes: a PIL image, a decoded sound, a tensor, an array or a mapping. It may be cached, so it
            is not to be changed in place.
        label: class, where the source has classes.
        caption: text, where the source has text.
        objects: how many the image shows, where that is known.
    """

    key: str
    signal: SignalLike
    label: int | None = None
    caption: str | None = None
    objects: int | None = None

    @property
    def image(self) -> Image.Image:
        """The signal as a decoded image, for what works on images only.

        Raises:
            SignalError: if it is none.
        """
        if not isinstance(self.signal, Image.Image):
            raise SignalError(f"{self.key} is a {type(self.signal).__name__}; expected a decoded image")
        return self.signal


class Source(ABC):
    """A set of signals with random access. Reading keeps no file open, so that a source can be used by several threads and processes.

    Attributes:
        modality: of its signals.
        class_names: one name per label, where they are known.
        skipped: what could not even be indexed, such as the rest of a truncated archive.
    """

    modality: Modality
    class_names: tuple[str, ...] | None = None
    skipped: tuple[Skip, ...] = ()

    @property
    @abstractmethod
    def identity(self) -> str:
        """A fingerprint of the listing (names and sizes, not paths) that result files carry: equal sets have equal identities."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def key(self, index: int) -> str:
        """The key of a sample, without reading it."""

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            SignalError: if its signal cannot be used.
            DataError: if its label or its storage is damaged.
        """


class MappedSource(Source):
    """Another source whose samples are changed as they are read; the base of these."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.modality, self.class_names, self.skipped = source.modality, source.class_names, source.skipped

    def __len__(self) -> int:
        return len(self._source)

    def key(self, index: int) -> str:
        return self._source.key(index)


def checked_label(value: object, name: str) -> int | None:
    """The rule for labels of every reader: a whole number from 0 to 2^63 - 1. Nothing, or a negative number, means "unknown", as in published
    test sets.

    Args:
        value: as the reader found it: an int, the text of one, or None.
        name: of the file or row, for errors.

    Raises:
        DataError: if it is anything else.
    """
    if value is None:
        return None
    if isinstance(value, bytes) and value.strip().removeprefix(b"-").isdigit():
        digits = value.strip()
        value = int(digits) if len(digits) <= _MOST_DIGITS else -1 if digits.startswith(b"-") else LARGEST_LABEL + 1
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{name} holds {value!r:.60} as the label; expected a whole number")
    if value > LARGEST_LABEL:
        raise DataError(f"{name} holds a label above {LARGEST_LABEL}, the largest that can be stored")
    return value if value >= 0 else None


def fingerprint(kind: str, count: int, rows: Iterable[str | bytes]) -> str:
    """`kind-count-hash` over the rows of a listing."""
    digest = hashlib.sha256()
    for row in rows:
        data = row.encode() if isinstance(row, str) else row
        digest.update(len(data).to_bytes(8, "big") + data)
    return f"{kind}-{count}-{digest.hexdigest()[:16]}"
