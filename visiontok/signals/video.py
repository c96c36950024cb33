"""Clips: from tensors and images to the batch that a video model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Positive
from visiontok.base.errors import SignalError
from visiontok.signals.batch import SignalBatch
from visiontok.signals.image import ImagePreprocessing
from visiontok.signals.preprocessing import Preprocessing, SignalLike, as_items, checked_values, tensor_of
from visiontok.signals.spec import SignalSpec


class VideoPreprocessing(Preprocessing):
    """What `ImagePreprocessing` does to images, done to every frame of clips.

    Attributes:
        frames: what happens to each frame.
        num_frames: of a clip for probing; with `fixed_length`, of every clip.
        fixed_length: whether the network takes clips of `num_frames` only.
        frames_multiple_of: clips are padded to a multiple of so many frames by repeating the last one, and cropped again after the decoder.
        first_frame_alone: the first frame stands by itself, as in causal models: 1 + a multiple of `frames_multiple_of`.
        rate: frames per second that the model was made for; None for any.
    """

    frames: ImagePreprocessing
    num_frames: Positive = 8
    fixed_length: bool = False
    frames_multiple_of: Positive = 1
    first_frame_alone: bool = False
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
        return self.frames.in_words

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
        """A batch (B, C, T, H, W) from such a batch, a clip (C, T, H, W), images (clips of one frame), or a list of clips and images.

        Arrays of bytes are clips (T, H, W, C), as readers of video files give them.

        Raises:
            SignalError: naming what was found and what is expected.
        """
        if isinstance(signal, Tensor) and signal.ndim == 5:
            return SignalBatch.stack([self._clip(clip, f"clip {number}") for number, clip in enumerate(signal)])
        return SignalBatch.stack([self._clip(item, f"item {number}") for number, item in enumerate(as_items(signal))])

    def _clip(self, item: SignalLike, name: str) -> Tensor:
        """(C, T, H, W)."""
        if isinstance(item, np.ndarray) and item.ndim == 4:
            channels_first = item.transpose(3, 0, 1, 2) if item.dtype == np.uint8 else item
            item = tensor_of(channels_first, name)
        if isinstance(item, Tensor) and item.ndim == 4:
            checked = checked_values(item[None], self.spec, name)[0]
            clip = self.frames(checked.transpose(0, 1)).values.transpose(0, 1)
        else:
            clip = next(iter(self.frames([item])))[:, None]
        if self.fixed_length and clip.shape[1] != self.num_frames:
            raise SignalError(f"{name} has {clip.shape[1]} frames; this model takes clips of {self.num_frames}: cut or repeat frames first")
        return clip.to(torch.float32)
