"""The first samples of a generator, kept beside its run: a grid of images, an animation of clips, or sounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from visiontok.base.files import contents, replacing
from visiontok.evaluation.results.report.clips import RATE
from visiontok.evaluation.results.report.sections import ImageArray
from visiontok.signals import SignalSpec
from visiontok.signals.animation import animation_grid, encode_animation
from visiontok.signals.audio_reading import Sound, read_audio
from visiontok.signals.audio_writing import save_audio
from visiontok.signals.image_writing import image_grid, save_image

SHOWN, COLUMNS = 40, 10
"""Images or clips that are kept, and how many are side by side."""

SOUNDS = 6
"""Sounds that are kept."""

_IMAGES, _CLIPS, _SOUNDS = "samples.png", "samples.webp", "samples"


def save_samples(signals: Tensor, spec: SignalSpec, folder: Path) -> None:
    """Keep the first of some signals (B, C, *axes), as far as they are images, clips or sounds."""
    if spec.modality == "audio" and spec.rate is not None:
        (folder / _SOUNDS).mkdir(parents=True, exist_ok=True)
        for number, sound in enumerate(signals[:SOUNDS]):
            save_audio(sound, folder / _SOUNDS / f"{number}.flac", rate=round(spec.rate))
    elif spec.is_rgb and spec.modality == "image":
        save_image(image_grid(signals[:SHOWN], columns=COLUMNS), folder / _IMAGES)
    elif spec.is_rgb:
        with replacing(folder / _CLIPS) as temporary:
            temporary.write_bytes(encode_animation(animation_grid([*signals[:SHOWN].cpu()], columns=COLUMNS), rate=spec.rate or RATE))


@dataclass(frozen=True, eq=False)
class KeptSamples:
    """What `save_samples` left, of which there is at most one.

    Attributes:
        images: a grid.
        animation: of clips, the bytes of an animated WebP file.
        sounds: in order.
    """

    images: ImageArray | None = None
    animation: bytes | None = None
    sounds: Sequence[Sound] = ()


def kept_samples(folder: Path) -> KeptSamples:
    """The samples of a run; empty where it has none."""
    if (folder / _IMAGES).is_file():
        return KeptSamples(images=read_image_array(folder / _IMAGES))
    if (folder / _CLIPS).is_file():
        return KeptSamples(animation=(folder / _CLIPS).read_bytes())
    sounds = [path for path in contents(folder / _SOUNDS) if path.suffix == ".flac"] if (folder / _SOUNDS).is_dir() else []
    return KeptSamples(sounds=[read_audio(path) for path in sounds])


def read_image_array(path: Path) -> ImageArray:
    """(H, W, 3) uint8 of an image file."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
