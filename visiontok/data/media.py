"""The kinds of signal files that sources know by their suffixes: images, clips and sound."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from visiontok.base.errors import DataError
from visiontok.data.source import fingerprint
from visiontok.signals import SignalLike
from visiontok.signals.audio_reading import read_audio
from visiontok.signals.image_reading import read_image
from visiontok.signals.video_frames import FrameSampling
from visiontok.signals.video_reading import ALL, read_clip

FileModality: TypeAlias = Literal["image", "video", "audio"]
"""Modalities of which one file holds one signal."""


class ReadFile(Protocol):
    """Reads a file from its path or its bytes. `name` is what errors call it; raises SignalError if it cannot be used."""

    def __call__(self, source: str | Path | bytes, /, *, name: str | None = None) -> SignalLike: ...


@dataclass(frozen=True)
class Medium:
    """One kind of signal files.

    Attributes:
        modality: of the signals.
        noun: what one of them is called.
        suffixes: of the files, in lower case, with the dot.
        read: see `ReadFile`.
    """

    modality: FileModality
    noun: str
    suffixes: frozenset[str]
    read: ReadFile


MEDIA: dict[FileModality, Medium] = {
    "image": Medium(
        "image",
        "image",
        frozenset((".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")),
        read_image,
    ),
    "video": Medium(
        "video",
        "clip",
        frozenset((".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv")),
        read_clip,
    ),
    "audio": Medium("audio", "sound", frozenset((".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav")), read_audio),
}

SUFFIXES = frozenset(suffix for medium in MEDIA.values() for suffix in medium.suffixes)
"""Of all of them."""


def reader_of(medium: Medium, sampling: FrameSampling) -> ReadFile:
    """How files of a source are read whose configuration says which frames are taken.

    Raises:
        DataError: if it says so of anything but clips.
    """
    if sampling == ALL:
        return medium.read
    if medium.modality != "video":
        raise DataError(f"fps and frames are for clips; these are {medium.noun}s: remove sampling")
    return partial(read_clip, sampling=sampling)


def sampled(identity: str, sampling: FrameSampling) -> str:
    """The identity of a source whose configuration says which frames are taken."""
    return identity if sampling == ALL else fingerprint(identity, 1, [sampling.model_dump_json()])


def the_medium(names: Iterable[str], *, where: str, source: str) -> Medium | None:
    """The one kind that files are of, by their suffixes; None where no file is of a known one.

    Args:
        names: of the files.
        where: what errors call the place of the files.
        source: the short form of the source without its path, "folder".

    Raises:
        DataError: if there are files of several kinds.
    """
    first: dict[FileModality, str] = {}
    for name in names:
        suffix = os.path.splitext(name)[1].lower()
        for medium in MEDIA.values():
            if suffix in medium.suffixes:
                first.setdefault(medium.modality, name)
    if len(first) > 1:
        found = " and ".join(f"{MEDIA[modality].noun}s ({name})" for modality, name in first.items())
        forms = " or ".join(f"{source}:{modality}:PATH" for modality in first)
        raise DataError(f"{where} holds {found}: say which are meant by {forms}")
    return next((MEDIA[modality] for modality in first), None)
