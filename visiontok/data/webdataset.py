"""Tar shards in the WebDataset layout, with random access and without extracting anything."""

from __future__ import annotations

import json
import tarfile
from array import array
from collections.abc import Iterator
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np

from visiontok.base.config import Config
from visiontok.base.errors import DataError
from visiontok.base.modality import Modality
from visiontok.data.shard_names import expand_shards
from visiontok.data.skips import Skip
from visiontok.data.source import Sample, Source, fingerprint
from visiontok.signals.image_reading import MAX_BYTES, read_image

_IMAGES = ("jpg", "jpeg", "png", "webp")
_COMPANIONS = ("cls", "txt", "json")


class WebDatasetConfig(Config):
    """Uncompressed tar shards.

    Members that follow each other and share a name up to its first dot form a sample: one image (.jpg, .jpeg, .png or .webp), and where there
    are any, .cls (the label, a whole number), .txt (the caption) and .json (an object, of which "label" or "cls", if it is a whole number, and
    "caption" or "text" are read; .cls and .txt win over it).

    Attributes:
        path: a shard, a folder of shards, a shell pattern, or a name with a range such as `train-{000..015}.tar`.
    """

    name: Literal["webdataset"] = "webdataset"
    path: str


class WebDatasetSource(Source):
    """Every sample of every shard; the members' byte ranges are read once, their bytes when they are asked for. Keys are `shard/name`."""

    modality: Modality = "image"

    def __init__(self, config: WebDatasetConfig) -> None:
        self._shards = expand_shards(config.path, ".tar")
        # One flat array of (offset, size) pairs, since sets have millions of samples: image, .cls, .txt, .json; offset -1 where there is none.
        self._spans = array("q")
        self._stems: list[str] = []
        self._suffixes: list[str] = []
        self._shard_of = array("l")
        skipped: list[Skip] = []
        for number, shard in enumerate(self._shards):
            for stem, suffix, parts in _samples(shard, skipped):
                self._stems.append(stem)
                self._suffixes.append(suffix)
                self._shard_of.append(number)
                for part in (suffix, *_COMPANIONS):
                    self._spans.extend(parts.get(part, (-1, 0)))
        self.skipped = tuple(skipped)
        if not self._stems:
            reasons = f" ({skipped[0].reason})" if skipped else ""
            raise DataError(f"{config.path!r} holds no sample with an image{reasons}; expected members such as 000001.jpg and 000001.cls")

    @cached_property
    def identity(self) -> str:
        keys = (f"{self.key(index)}.{self._suffixes[index]}" for index in range(len(self)))
        return fingerprint("webdataset", len(self), (*keys, np.asarray(self._spans).astype("<i8").tobytes()))

    def __len__(self) -> int:
        return len(self._stems)

    def key(self, index: int) -> str:
        return f"{self._shards[self._shard_of[index]].stem}/{self._stems[index]}"

    def read(self, index: int) -> Sample:
        name = f"{self._shards[self._shard_of[index]]}:{self._stems[index]}"
        image, label_file, text_file, json_file = (self._part(index, part, name) for part in range(4))
        label, caption = (None, None) if json_file is None else _from_json(json_file, f"{name}.json")
        if label_file is not None:
            label = _label(label_file, f"{name}.cls")
        if text_file is not None:
            caption = text_file.decode("utf-8", errors="replace").strip()
        return Sample(self.key(index), read_image(image or b"", name=f"{name}.{self._suffixes[index]}"), label=label, caption=caption)

    def _part(self, index: int, part: int, name: str) -> bytes | None:
        start = 2 * (index * (1 + len(_COMPANIONS)) + part)
        offset, size = self._spans[start], self._spans[start + 1]
        if offset < 0:
            return None
        name = f"{name}.{(self._suffixes[index], *_COMPANIONS)[part]}"
        if size > MAX_BYTES:
            raise DataError(f"{name} has {size} bytes; more than {MAX_BYTES} are not read")
        try:
            with self._shards[self._shard_of[index]].open("rb") as stream:
                stream.seek(offset)
                data = stream.read(size)
        except OSError as error:
            raise DataError(f"{name} cannot be read: {error}") from error
        if len(data) < size:
            raise DataError(f"{name} is truncated: the shard ends after {len(data)} of its {size} bytes")
        return data


def _samples(shard: Path, skipped: list[Skip]) -> Iterator[tuple[str, str, dict[str, tuple[int, int]]]]:
    """(name, suffix of the image, byte ranges by suffix) of the samples of a shard; what is not a sample is added to `skipped`."""
    for stem, members in groupby(_members(shard, skipped), key=lambda member: member[0]):
        parts = {suffix: span for _, suffix, span in members}
        images = [suffix for suffix in _IMAGES if suffix in parts]
        if len(images) == 1:
            yield stem, images[0], parts
        else:
            found = f"{len(images)} images" if images else "no image"
            skipped.append(Skip(f"{shard.stem}/{stem}", f"{shard}:{stem} has {found} among its members ({', '.join(sorted(parts))})"))


def _members(shard: Path, skipped: list[Skip]) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """(name up to the first dot, suffix in lower case, (offset, size)) of the files in a shard; a shard that breaks off is added to `skipped`."""
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                folder, _, file = member.name.rpartition("/")
                stem, dot, suffix = file.partition(".")
                if member.isreg() and not member.issparse() and stem and dot:
                    yield f"{folder}/{stem}" if folder else stem, suffix.lower(), (member.offset_data, member.size)
            end = archive.offset
        with shard.open("rb") as stream:
            stream.seek(end)
            block = stream.read(tarfile.BLOCKSIZE)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        skipped.append(Skip(shard.name, f"{shard} is not an uncompressed tar archive, or is damaged: {error}"))
        return
    # tarfile stops without a word at a block that it cannot read; an archive that is whole ends in blocks of zeros.
    if len(block) < tarfile.BLOCKSIZE or any(block):
        skipped.append(Skip(shard.name, f"{shard} is damaged or truncated: at byte {end} comes neither a member nor the end mark"))


def _from_json(data: bytes, name: str) -> tuple[int | None, str | None]:
    try:
        values: Any = json.loads(data)
    except ValueError as error:
        raise DataError(f"{name} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{name} holds a {type(values).__name__}; expected an object")
    label, caption = (values.get(first, values.get(second)) for first, second in (("label", "cls"), ("caption", "text")))
    return label if type(label) is int else None, caption if isinstance(caption, str) else None


def _label(data: bytes, name: str) -> int:
    if not data.strip().isdigit():
        raise DataError(f"{name} holds {data[:20]!r}; expected a label, a whole number of at least 0")
    return int(data)
