"""Tokenizers of clips that read whole clips, and take long ones as several."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.base.noise import as_noise
from visiontok.core.model import ConfigT
from visiontok.core.tokenizer import EncodeOptions, Tokenizer
from visiontok.core.windows import Windowed
from visiontok.signals import VideoPreprocessing
from visiontok.tokens import Latents, Tokens, join_clips


class WindowedClips(Windowed, Tokenizer[ConfigT]):
    """Base of tokenizers whose tokens depend on all frames of a clip.

    `encode` takes a clip of more frames than `window` as clips of so many, with a warning, so that memory hardly grows with the length. Tokens keep
    the boundaries, those of a short clip too, and `decode` respects them.
    """

    window_unit: ClassVar = "frames"
    preprocessing: VideoPreprocessing

    @property
    def usual_window(self) -> float:
        """See `Windowed`: the frames of training."""
        return self.preprocessing.num_frames

    def check_window(self, length: float) -> None:
        """See `Windowed`: whole frames."""
        if not (length == math.inf or (length >= 1 and length == int(length))):
            raise ConfigError(f"windows of {length:g} frames; expected a whole number, at least 1, or infinity to take every clip whole")

    def near_in_words(self) -> str:
        """What a warning says where a clip is cut."""
        return (
            f"{type(self).__name__} reads whole clips; one of more than {self.window:g} frames is taken as clips of {self.window:g}, "
            "each by itself: set window (--window) for others, or to infinity to take it whole"
        )

    def encode_unpadded(self, signal: Tensor, options: EncodeOptions) -> Tokens | Latents:
        """See `Tokenizer`."""
        is_long = signal.shape[2] > self.window
        if is_long:
            warnings.warn(self.near_in_words(), stacklevel=1)  # from one place, so that Python says it once
        own = options if options.noise is None else replace(options, noise=as_noise(options.noise, signal.device))
        parts = signal.split(int(self.window) if is_long else signal.shape[2], dim=2)
        return join_clips([self._with_size(super(WindowedClips, self).encode_unpadded(part, own), _sizes(part)) for part in parts])


def _sizes(signal: Tensor) -> Tensor:
    """(B, A) of a batch (B, C, *axes)."""
    return torch.tensor(signal.shape[2:]).expand(len(signal), -1)
