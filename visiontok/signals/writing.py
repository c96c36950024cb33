"""Signals as files that people open: images as PNG, clips as mp4, sound as wav, anything else as NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from visiontok.base.files import replacing
from visiontok.signals.audio_writing import save_audio
from visiontok.signals.image_writing import save_image
from visiontok.signals.spec import SignalSpec
from visiontok.signals.video_writing import save_video

USUAL_RATE = 25.0
"""Frames per second at which clips are written of which nothing is known."""


@dataclass(frozen=True)
class SignalWriter:
    """How signals of one kind are written.

    Attributes:
        noun: what one of the files is called.
        suffix: of the files.
        stored: signals (..., C, *axes) with the values that a file keeps of them.
        save: writes a signal (C, *axes) in the range of its spec. Returns how many of its values are at full scale and may be clipped, where that is
            known; else 0.
        side_by_side: signals (C, *axes) of one size as one, to be looked at together; None for those that are not looked at.
    """

    noun: str
    suffix: str
    stored: Callable[[Tensor], Tensor]
    save: Callable[[Tensor, Path], int]
    side_by_side: Callable[[Sequence[Tensor]], Tensor] | None = None


def writer_of(spec: SignalSpec) -> SignalWriter:
    """The writer of such signals: RGB images as PNG of 8 bits, RGB clips as mp4, sound as wav of 16 bits, anything else as .npy."""
    if spec.modality == "image" and spec.is_rgb:
        return SignalWriter("image", ".png", _stored_image, _save_image, partial(torch.cat, dim=2))
    if spec.modality == "video" and spec.is_rgb:
        return SignalWriter("clip", ".mp4", _stored_image, partial(_save_clip, rate=spec.rate or USUAL_RATE), partial(torch.cat, dim=3))
    if spec.modality == "audio" and spec.rate is not None:
        return SignalWriter("sound", ".wav", _stored_sound, partial(save_audio, rate=round(spec.rate)))
    return SignalWriter("array", ".npy", lambda signal: signal, _save_array)


def _stored_image(image: Tensor) -> Tensor:
    return (image * 255).round() / 255


def _stored_sound(sound: Tensor) -> Tensor:
    return (sound * 2**15).round_().clamp_(-(2**15), 2**15 - 1).div_(2**15)


def _save_image(image: Tensor, path: Path) -> int:
    save_image(image, path)
    return 0


def _save_clip(clip: Tensor, path: Path, *, rate: float) -> int:
    save_video(clip, path, rate=rate)
    return 0


def _save_array(signal: Tensor, path: Path) -> int:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, signal.cpu().numpy())
    return 0
