"""Tar shards in the WebDataset layout, with random access and without extracting anything."""

from __future__ import annotations

import json
import tarfile
from array import array
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from visiontok.base.config import Config
from visiontok.base.errors import DataError, damage_as
from visiontok.base.modality import Modality
from visiontok.base.printable import printable
from visiontok.data.media import MEDIA, SUFFIXES, FileModality, Medium, reader_of, sampled, the_medium
from visiontok.data.shard_names import expand_shards, shard_labels
from visiontok.data.skips import Skip
from visiontok.data.source import Sample, Source, checked_label, fingerprint
from visiontok.signals.video_frames import FrameSampling

MAX_BYTES = 2**30
"""The largest member that is read."""

_COMPANIONS = ("cls", "txt", "json")
_COMPRESSED = (".tar.bz2", ".tar.gz", ".tar.xz", ".tar.zst", ".tgz")  # cannot be read at random, so that they are listed as skipped
_LARGEST_OFFSET = 2**63 - 1  # of the table of byte ranges, and of files


class WebDatasetConfig(Config):
    """Uncompressed tar shards.

    Members of a shard that share a name up to its first dot form a sample, wherever they lie in it: one image, clip or sound, and where there are
    any, .cls (the label), .txt (the caption) and .json (an object, of which "label" or "cls", and "caption" or "text", if it is a text, are read;
    .cls and .txt go before it). Labels are whole numbers; those below 0, and null, stand for no label. Hard links are read as the
    member that they lead to. Of two members of one name the first is used; the second, and whatever belongs to no sample, is listed in `skipped`.

    Attributes:
        modality: of the files that are meant; None for that of the first sample, if it holds only one kind.
        path: a shard, a folder of shards, a shell pattern, or a name with a range such as `train-{000..015}.tar`.
        sampling: of clips, which of their frames are taken.
    """

    name: Literal["webdataset"] = "webdataset"
    modality: FileModality | None = None
    path: str
    sampling: FrameSampling = FrameSampling()


class WebDatasetSource(Source):
    """Every sample of every shard; the members' byte ranges are read once, their bytes when they are requested. Keys are `shard/name`,
    with the shard's folder where shards share a name."""

    def __init__(self, config: WebDatasetConfig) -> None:
        self._shards = expand_shards(config.path, ".tar", *_COMPRESSED)
        self._shard_labels = shard_labels(self._shards)
        # One flat array of (offset, size) pairs, since sets have millions of samples: the signal, .cls, .txt, .json; offset -1 where there is none.
        self._spans = array("q")
        self._stems: list[str] = []
        self._suffixes: list[str] = []
        self._shard_of = array("l")
        skipped: list[Skip] = []
        medium = None if config.modality is None else MEDIA[config.modality]
        for number, shard in enumerate(self._shards):
            label = self._shard_labels[number]
            samples = _grouped(shard, label, skipped)
            medium = medium or _first_medium(samples, shard)
            for stem, suffix, parts in _with_signal(samples, medium, shard, label, skipped):
                self._stems.append(stem)
                self._suffixes.append(suffix)
                self._shard_of.append(number)
                for part in (suffix, *_COMPANIONS):
                    self._spans.extend(parts.get(part, (-1, 0)))
        self.skipped = tuple(skipped)
        if not self._stems or medium is None:
            reasons = f" ({skipped[0].reason})" if skipped else ""
            raise DataError(
                f"{config.path!r} holds no sample with {_noun(medium)}{reasons}; expected members such as 000001.jpg or 000001.wav, and 000001.cls"
            )
        self.modality: Modality = medium.modality
        self._read, self._sampling = reader_of(medium, config.sampling), config.sampling

    @cached_property
    def identity(self) -> str:
        keys = (f"{self.key(index)}.{self._suffixes[index]}" for index in range(len(self)))
        return sampled(fingerprint("webdataset", len(self), (*keys, np.asarray(self._spans).astype("<i8").tobytes())), self._sampling)

    def __len__(self) -> int:
        return len(self._stems)

    def key(self, index: int) -> str:
        return f"{self._shard_labels[self._shard_of[index]]}/{self._stems[index]}"

    def read(self, index: int) -> Sample:
        name = f"{self._shards[self._shard_of[index]]}:{self._stems[index]}"
        signal, label_file, text_file, json_file = (self._part(index, part, name) for part in range(4))
        label, caption = (None, None) if json_file is None else _from_json(json_file, f"{name}.json", with_label=label_file is None)
        if label_file is not None:
            label = checked_label(label_file, f"{name}.cls")
        if text_file is not None:
            caption = text_file.decode("utf-8", errors="replace").strip()
        return Sample(self.key(index), self._read(signal or b"", name=f"{name}.{self._suffixes[index]}"), label=label, caption=caption)

    def _part(self, index: int, part: int, name: str) -> bytes | None:
        start = 2 * (index * (1 + len(_COMPANIONS)) + part)
        offset, size = self._spans[start], self._spans[start + 1]
        if offset < 0:
            return None
        name = f"{name}.{(self._suffixes[index], *_COMPANIONS)[part]}"
        if size > MAX_BYTES:
            raise DataError(f"{name} has {size} bytes; more than {MAX_BYTES} are not read")
        with damage_as(DataError, f"{name} cannot be read"), self._shards[self._shard_of[index]].open("rb") as stream:
            stream.seek(offset)
            data = stream.read(size)
        if len(data) < size:
            raise DataError(f"{name} is truncated: the shard ends after {len(data)} of its {size} bytes")
        return data


def _grouped(shard: Path, label: str, skipped: list[Skip]) -> dict[str, dict[str, tuple[int, int]]]:
    """Byte ranges by name and suffix of the members of a shard; members that come again are added to `skipped`."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    for stem, suffix, span in _members(shard, label, skipped):
        parts = samples.setdefault(stem, {})
        if suffix in parts:
            reason = f"{shard} holds {stem}.{suffix} again, at byte {span[0]}; the first one is used"
            skipped.append(Skip(f"{label}/{stem}.{suffix} at byte {span[0]}", reason))
        else:
            parts[suffix] = span
    return samples


def _first_medium(samples: Mapping[str, Mapping[str, Any]], shard: Path) -> Medium | None:
    """The kind of files of the first sample that holds any."""
    found = (
        the_medium((f"{stem}.{suffix}" for suffix in parts if "." not in suffix), where=str(shard), source="webdataset")
        for stem, parts in samples.items()
    )
    return next((medium for medium in found if medium is not None), None)


def _with_signal(
    samples: Mapping[str, dict[str, tuple[int, int]]], medium: Medium | None, shard: Path, label: str, skipped: list[Skip]
) -> Iterator[tuple[str, str, dict[str, tuple[int, int]]]]:
    """(name, suffix of the signal, byte ranges by suffix) of the samples; what is not a sample is added to `skipped`."""
    known = SUFFIXES if medium is None else medium.suffixes
    for stem, parts in samples.items():
        signals = [suffix for suffix in parts if f".{suffix}" in known]
        if len(signals) == 1:
            yield stem, signals[0], parts
            continue
        dotted = [suffix for suffix in parts if f".{suffix.rpartition('.')[2]}" in known] if not signals else []
        for suffix in dotted:
            reason = f"{shard}:{stem}.{suffix} is no {_noun(medium)}: a suffix begins at the first dot, and .{suffix} is none; rename it"
            skipped.append(Skip(f"{label}/{stem}.{suffix}", reason))
        if not dotted:
            found = f"{len(signals)} {_noun(medium)}s" if signals else f"no {_noun(medium)}"
            skipped.append(Skip(f"{label}/{stem}", f"{shard}:{stem} has {found} among its members ({', '.join(sorted(parts))})"))


def _members(shard: Path, label: str, skipped: list[Skip]) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """(name up to the first dot, suffix in lower case, (offset, size)) of the files in a shard, hard links as the member that they lead to.

    Members that can belong to no sample, and a shard that breaks off, are added to `skipped`."""
    shard_key = f"{label}{shard.suffix}"
    targets: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                # A size below zero would lead back to members that were read already, without end.
                if archive.offset <= member.offset or member.size < 0 or member.offset_data + member.size > _LARGEST_OFFSET:
                    reason = f"{shard} is damaged: {printable(member.name)} at byte {member.offset} has {member.size} bytes by its header"
                    skipped.append(Skip(shard_key, reason))
                    return
                if member.isdir():
                    continue
                span = targets.get(member.linkname) if member.islnk() else (member.offset_data, member.size)
                folder, _, file = member.name.rpartition("/")
                stem, dot, suffix = file.partition(".")
                problem = _problem(member, span, named=bool(stem and dot))
                if problem is not None or span is None:
                    key = f"{label}/{printable(member.name)}"
                    skipped.append(Skip(f"{key} at byte {member.offset}", f"{shard}:{printable(member.name)} {problem}"))
                    continue
                targets[member.name] = span
                yield f"{folder}/{stem}" if folder else stem, suffix.lower(), span
            end = archive.offset
        with shard.open("rb") as stream:
            stream.seek(end)
            block = stream.read(tarfile.BLOCKSIZE)
    except Exception as error:  # a parser can raise anything on damaged bytes
        skipped.append(Skip(shard_key, f"{shard} is not an uncompressed tar archive, or is damaged: {type(error).__name__}: {error}"))
        return
    # tarfile stops without a word at a block that it cannot read; an archive that is whole ends in blocks of zeros.
    if len(block) < tarfile.BLOCKSIZE or any(block):
        skipped.append(Skip(shard_key, f"{shard} is damaged or truncated: at byte {end} comes neither a member nor the end mark"))


def _problem(member: tarfile.TarInfo, span: tuple[int, int] | None, *, named: bool) -> str | None:
    """Why a member can belong to no sample; None where it can."""
    if printable(member.name) != member.name:
        return "has a name that is not UTF-8, or holds control characters"
    if span is None:
        return f"is a hard link to {printable(member.linkname)}, which does not come before it"
    if not (member.isreg() or member.islnk()) or member.issparse():
        return "is neither a regular file nor a hard link to one (links and sparse files are not followed)"
    return None if named else "has no name before its suffix, or no suffix"


def _from_json(data: bytes, name: str, *, with_label: bool) -> tuple[int | None, str | None]:
    """Label, where it is asked for, and caption."""
    with damage_as(DataError, f"{name} is not JSON that can be read"):
        values: Any = json.loads(data)
    if not isinstance(values, dict):
        raise DataError(f"{name} holds a {type(values).__name__}; expected an object")
    label, caption = (values.get(second) if values.get(first) is None else values[first] for first, second in (("label", "cls"), ("caption", "text")))
    caption = caption.encode("utf-8", errors="replace").decode() if isinstance(caption, str) else None
    return checked_label(label, name) if with_label else None, caption


def _noun(medium: Medium | None) -> str:
    return " or ".join(each.noun for each in MEDIA.values()) if medium is None else medium.noun
