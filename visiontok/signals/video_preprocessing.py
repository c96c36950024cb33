"""From clips as a caller holds them to the batch that a video model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor

from visiontok.base.errors import SignalError
from visiontok.signals.image_preprocessing import ImagePreprocessing, SignalLike


class VideoPreprocessing(ImagePreprocessing):
    """What `ImagePreprocessing` does to images, done to every frame of clips.

    Attributes:
        frames_multiple_of: a clip must have a multiple of so many frames; none are made up or left out.
    """

    frames_multiple_of: Annotated[int, Field(gt=0)] = 1

    def __call__(self, signal: SignalLike | Sequence[SignalLike]) -> Tensor:
        """A batch (B, 3, T, H, W) float32 in [0, 1] from such a batch or one clip (3, T, H, W), floats in [0, 1] or uint8.

        Raises:
            SignalError: naming what was found and what is expected.
        """
        if not isinstance(signal, Tensor) or signal.ndim not in (4, 5) or signal.shape[-4] != 3:
            found = f"a tensor of shape {tuple(signal.shape)}" if isinstance(signal, Tensor) else type(signal).__name__
            raise SignalError(f"expected clips as a tensor (B, 3, T, H, W) or (3, T, H, W), got {found}")
        clips = signal if signal.ndim == 5 else signal[None]
        if not clips.shape[2] or clips.shape[2] % self.frames_multiple_of:
            raise SignalError(f"clips of {clips.shape[2]} frames; this model takes multiples of {self.frames_multiple_of}: cut or pad them first")
        frames = super().__call__(clips.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, (len(clips), -1)).transpose(1, 2)
