"""Tokenizers of clips that read whole clips, and take long ones as several."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import torch
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.base.noise import as_noise
from visiontok.core.model import ConfigT
from visiontok.core.tokenizer import EncodeOptions, Tokenizer
from visiontok.signals import VideoPreprocessing
from visiontok.tokens import Latents, Tokens, join_clips


class WindowedClips(Tokenizer[ConfigT]):
    """Base of tokenizers whose tokens depend on all frames of a clip.

    `encode` takes a clip of more than `window_frames` as clips of so many, with a warning, so that memory hardly grows with the length. Tokens keep
    the boundaries, those of a short clip too, and `decode` respects them.
    """

    preprocessing: VideoPreprocessing
    _window_frames: float | None = None

    @property
    def window_frames(self) -> float:
        """Frames of the clips that longer ones are cut into; those of `preprocessing.num_frames`, as in training, unless it is set.

        Tokens depend on the clip and on this number only. Infinity takes every clip whole.

        Raises:
            ConfigError: if it is set to less than one frame, or a part of one.
        """
        return self.preprocessing.num_frames if self._window_frames is None else self._window_frames

    @window_frames.setter
    def window_frames(self, frames: float) -> None:
        if not (frames == math.inf or (frames >= 1 and frames == int(frames))):
            raise ConfigError(f"windows of {frames:g} frames; expected a whole number, at least 1, or infinity to take every clip whole")
        self._window_frames = frames

    def near_in_words(self) -> str:
        """What a warning says where a clip is cut."""
        return (
            f"{type(self).__name__} reads whole clips; one of more than {self.window_frames:g} frames is taken as clips of {self.window_frames:g}, "
            "each by itself: set window_frames (--window) for others, or to infinity to take it whole"
        )

    def encode_unpadded(self, signal: Tensor, options: EncodeOptions) -> Tokens | Latents:
        """See `Tokenizer`."""
        is_long = signal.shape[2] > self.window_frames
        if is_long:
            warnings.warn(self.near_in_words(), stacklevel=1)  # from one place, so that Python says it once
        own = options if options.noise is None else replace(options, noise=as_noise(options.noise, signal.device))
        parts = signal.split(int(self.window_frames) if is_long else signal.shape[2], dim=2)
        return join_clips([self._with_size(super(WindowedClips, self).encode_unpadded(part, own), _sizes(part)) for part in parts])


def _sizes(signal: Tensor) -> Tensor:
    """(B, A) of a batch (B, C, *axes)."""
    return torch.tensor(signal.shape[2:]).expand(len(signal), -1)
