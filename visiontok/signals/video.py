"""Clips: from files, arrays, tensors and images to the batch that a video model takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Positive
from visiontok.base.errors import SignalError
from visiontok.signals.batch import SignalBatch
from visiontok.signals.image import ImagePreprocessing
from visiontok.signals.image_reading import read_image
from visiontok.signals.preprocessing import Preprocessing, SignalLike, as_items, checked_values, tensor_of
from visiontok.signals.spec import SignalSpec
from visiontok.signals.video_reading import Clip, VideoFile

MAX_VALUES = 2**30
"""The most values of one clip as a tensor, 4 GiB of floats: three minutes of 256 x 256 pixels at 30 frames per second."""

_AT_ONCE = 16  # frames that are resized together


class VideoPreprocessing(Preprocessing):
    """What `ImagePreprocessing` does to images, done to every frame of clips. Where tensors keep their size, files do, too, but for square frames.

    Attributes:
        frames: what happens to each frame.
        num_frames: of a clip for probing; with `fixed_length`, of every clip.
        fixed_length: whether the network takes clips of `num_frames` only.
        max_frames: the most that the network takes; None for any number. Longer clips can be prepared, to be cut in training, but not encoded.
        frames_multiple_of: clips are padded to a multiple of so many frames by repeating the last one, and cropped again after the decoder.
        first_frame_alone: the first frame stands by itself, as in causal models: 1 + a multiple of `frames_multiple_of`.
        square: whether the network takes square frames only: files are resized and cropped to them, and tensors whose sides differ are refused.
        rate: frames per second that the model was made for; None for any.
    """

    frames: ImagePreprocessing
    num_frames: Positive = 8
    fixed_length: bool = False
    max_frames: Positive | None = None
    frames_multiple_of: Positive = 1
    first_frame_alone: bool = False
    square: bool = False
    rate: Annotated[float, Field(gt=0)] | None = None

    @property
    def spec(self) -> SignalSpec:
        frames = self.frames
        return SignalSpec(modality="video", channels=frames.channels, low=frames.low, high=frames.high, rate=self.rate)

    @property
    def fixed_size(self) -> tuple[int, ...] | None:
        return (self.num_frames, *self.frames.fixed_size) if self.fixed_length and self.frames.fixed_size else None

    @property
    def in_words(self) -> str:
        size = None if self._keep_size else self.frames.size
        return "" if size is None else f"Frames become {size} x {size} pixels: {self.frames.fit_in_words}."

    @property
    def usual_size(self) -> tuple[int, ...]:
        return self.padded_size((self.num_frames, *self.frames.usual_size))

    @property
    def multiples(self) -> tuple[int, ...]:
        return (self.frames_multiple_of, *self.frames.multiples)

    def padded_size(self, size: Sequence[int]) -> tuple[int, ...]:
        alone = int(self.first_frame_alone)
        count, *sides = super().padded_size((max(size[0] - alone, 0), *size[1:]))
        return (count + alone, *sides)

    def __call__(self, signal: SignalLike | Sequence[SignalLike]) -> SignalBatch:
        """A batch (B, C, T, H, W).

        From such a batch; a tensor or an array of floats (C, T, H, W); a path, an address or the bytes of a video file, see `VideoFile`; a decoded
        `Clip`, or its frames as an array of bytes (T, H, W, 3); an image of any kind, which is a clip of one frame; or a list of them.

        Raises:
            SignalError: naming the file or the item, what was found and what is expected.
            DependencyError: for files, without the extra `audio`.
        """
        if isinstance(signal, Tensor) and signal.ndim == 5:
            return SignalBatch.stack([self._clip(clip, f"clip {number}") for number, clip in enumerate(signal)])
        return SignalBatch.stack([self._clip(item, f"item {number}") for number, item in enumerate(as_items(signal))])

    def resized(self, side: int) -> Self:
        """The same, but frames are resized and cropped to the square of that side, those of tensors too.

        Raises:
            SignalError: if the network takes frames of another size only.
        """
        frames = self.frames
        if frames.fixed_size not in (None, (side, side)):
            raise SignalError(f"this model takes frames of {frames.fixed_size} only, not of {(side, side)}")
        return self.replace(frames=frames.replace(size=side, tensors_keep_size=False))

    def chunks(self, frames: Iterable[np.ndarray], length: int, *, name: str = "the clip") -> Iterator[Tensor]:
        """Frames (H, W, 3) uint8 in turn -> clips (C, T, H, W) of `length` frames, of which the last may have fewer.

        Raises:
            SignalError: if the model takes no RGB frames.
        """
        if not self.spec.is_rgb:
            raise SignalError(f"{name} holds RGB frames; this model takes tensors or float arrays {self.spec.shape}")
        prepare = self.frames.replace(size=None) if self._keep_size else self.frames
        rest = iter(frames)
        while images := [Image.fromarray(frame) for frame in islice(rest, length)]:
            yield prepare(images).values.transpose(0, 1)

    @property
    def _keep_size(self) -> bool:
        """Whether frames of files do."""
        return self.frames.tensors_keep_size and not self.square

    def pad(self, values: Tensor) -> Tensor:
        """See `Preprocessing`.

        Raises:
            SignalError: also if the network takes other numbers of frames, or square frames only, naming the nearest.
        """
        self.checked_count(values.shape[2], "the clip")
        _, height, width = self.padded_size(values.shape[2:])
        if self.square and height != width:
            own, near = tuple(values.shape[3:]), (min(height, width), max(height, width))
            raise SignalError(
                f"the frames have {own[0]} x {own[1]} pixels; this network takes square ones: crop or resize them, for example to "
                f"{near[0]} x {near[0]} or {near[1]} x {near[1]}"
            )
        return super().pad(values)

    def joined(self, clips: Iterable[Tensor], *, name: str = "the clip") -> Tensor:
        """Clips (..., T, H, W) in turn as one.

        Raises:
            SignalError: if they have more than `MAX_VALUES`.
        """
        parts, values = [], 0
        for clip in clips:
            parts.append(clip)
            values += clip.numel()
            if values > MAX_VALUES:
                raise SignalError(
                    f"{name} has more than the {MAX_VALUES} values of a clip that are kept: take fewer frames (fps, frames, clip length)"
                )
        return torch.cat(parts, dim=-3)

    def checked_count(self, count: int, name: str) -> int:
        """A number of frames that the network takes, if need be after padding.

        Raises:
            SignalError: if it takes others only, with the nearest.
        """
        most = self.num_frames if self.fixed_length else self.max_frames
        if most is not None and (count > most or (self.fixed_length and count < most)):
            kind = f"{most} frames" if self.fixed_length else f"at most {most} frames"
            cut = f"take the first {most} (frames), or cut it into clips of {most} (clip length)" if count > most else "repeat frames first"
            raise SignalError(f"{name} has {count} frames; this model takes clips of {kind}: {cut}")
        return count

    def _clip(self, item: SignalLike, name: str) -> Tensor:
        """(C, T, H, W)."""
        if isinstance(item, str | Path | bytes):
            with VideoFile(item, name=name if isinstance(item, bytes) else None) as video:
                clip = self._whole((frame.pixels for frame in video.frames()), video.name)
        elif isinstance(item, Clip):
            clip = self._whole(item.frames, name)
        elif isinstance(item, Image.Image) or (isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim < 4):
            clip = self._whole([np.asarray(read_image(item, name=name))], name)
        elif isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim == 4 and self.spec.is_rgb:
            clip = self._whole(_rgb_frames(item, name), name)
        else:
            clip = self._values(item, name)
        if self.fixed_length:
            self.checked_count(clip.shape[1], name)
        return clip.to(torch.float32)

    def _whole(self, frames: Iterable[np.ndarray], name: str) -> Tensor:
        return self.joined(self.chunks(frames, _AT_ONCE, name=name), name=name)

    def _values(self, item: SignalLike, name: str) -> Tensor:
        """(C, T, H, W) of a tensor or an array."""
        if isinstance(item, np.ndarray):
            item = tensor_of(item.transpose(3, 0, 1, 2) if item.dtype == np.uint8 else item, name)
        if not isinstance(item, Tensor) or item.ndim not in (3, 4):
            found = f"of shape {tuple(item.shape)}" if isinstance(item, Tensor) else f"a {type(item).__name__}"
            raise SignalError(f"{name} is {found}; expected a clip (C, T, H, W), an image, or a batch {self.spec.shape}")
        checked = checked_values((item if item.ndim == 4 else item[:, None])[None], self.spec, name)[0]
        return self.frames(checked.transpose(0, 1)).values.transpose(0, 1)


def _rgb_frames(frames: np.ndarray, name: str) -> np.ndarray:
    if frames.shape[3] != 3 or 0 in frames.shape:
        raise SignalError(f"{name} has shape {frames.shape}; expected frames (T, H, W, 3) as bytes")
    return np.ascontiguousarray(frames)
