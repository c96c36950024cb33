"""Images: from a path, bytes, PIL image, array or tensor to the batch that a model takes.

torchvision is imported where images are read: it takes as long as torch, and not every command that builds a model reads images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from torch import Tensor

from visiontok.base.config import Positive
from visiontok.base.errors import SignalError
from visiontok.signals.audio_reading import Sound
from visiontok.signals.batch import SignalBatch
from visiontok.signals.image_reading import MAX_PIXELS, read_image
from visiontok.signals.preprocessing import Preprocessing, SignalLike, as_items, checked_values, tensor_of
from visiontok.signals.spec import SignalSpec
from visiontok.signals.video_reading import Clip


class ImagePreprocessing(Preprocessing):
    """Resize the shorter side and crop the center, resize both sides, or keep the size; scale to the range of the values.

    Attributes:
        size: the square that files and images become; None keeps their size.
        fit: how they become it: the shorter side is resized and the center cropped, or both sides are resized.
        interpolation: of the resize, always with antialiasing; tensors have no lanczos and are resized bicubically instead.
        tensors_keep_size: tensors are not resized to `size`, for models that take any multiple of `multiple_of`.
        multiple_of: sides that are kept are padded to a multiple of this before the encoder, and cropped again after the decoder.
        channels, low, high: of the values; three in [0, 1] unless told otherwise. Files hold RGB, so other signals come as tensors or float arrays.
    """

    size: Positive | None = None
    fit: Literal["crop", "stretch"] = "crop"
    interpolation: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"
    tensors_keep_size: bool = False
    multiple_of: Positive = 1
    channels: Positive = 3
    low: float | None = 0.0
    high: float | None = 1.0

    @property
    def spec(self) -> SignalSpec:
        return SignalSpec(modality="image", channels=self.channels, low=self.low, high=self.high)

    @property
    def fixed_size(self) -> tuple[int, ...] | None:
        return None if self.size is None or self.tensors_keep_size else (self.size, self.size)

    @property
    def in_words(self) -> str:
        if self.size is None:
            return ""
        return f"Image files become {self.size} x {self.size} pixels: {self.fit_in_words}."

    @property
    def fit_in_words(self) -> str:
        """How files become a square."""
        return "the shorter side is resized, the center is cropped" if self.fit == "crop" else "both sides are resized"

    @property
    def usual_size(self) -> tuple[int, ...]:
        side = self.size or self.multiple_of * max(1, 64 // self.multiple_of)
        return (side, side)

    @property
    def multiples(self) -> tuple[int, ...]:
        return (self.multiple_of, self.multiple_of)

    def __call__(self, signal: SignalLike | Sequence[SignalLike]) -> SignalBatch:
        """A batch (B, C, H, W); images of different sizes may share it where the size is kept.

        Raises:
            SignalError: naming the file or the batch item, what was found and what is expected.
        """
        if isinstance(signal, Tensor) and signal.ndim == 4:
            return SignalBatch.of(self._fit(checked_values(signal, self.spec, "the batch"), self._tensor_size, "the batch"))
        return SignalBatch.stack([self._one(item, f"item {number}") for number, item in enumerate(as_items(signal))])

    def resize(self, image: Image.Image, *, name: str = "the image") -> Image.Image:
        """Resize the shorter side, or both, to `size` on 8-bit values with PIL, as the published pipelines do for files; unchanged where it is None.

        Raises:
            SignalError: if the image is so long and thin that it would become too large.
        """
        if self.size is None or self._has_size(image.height, image.width):
            return image
        self._check_length(image.height, image.width, name)
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional as F

        return F.resize(image, self._resized_to(self.size), interpolation=InterpolationMode(self.interpolation), antialias=True)

    def _one(self, item: SignalLike, name: str) -> Tensor:
        pixels: Tensor
        size = self.size
        if isinstance(item, Tensor):
            pixels, size = item, self._tensor_size
        elif isinstance(item, np.ndarray) and item.dtype.kind == "f":
            pixels, size = tensor_of(item if item.ndim == 3 else item[None], name), self._tensor_size
        elif not self.spec.is_rgb:
            raise SignalError(f"{name} is a {type(item).__name__}; this model takes tensors or float arrays {self.spec.shape}")
        elif isinstance(item, Mapping | Sound | Clip):
            raise SignalError(f"{name} is a {type(item).__name__}; expected an image")
        else:
            name = str(item) if isinstance(item, str | Path) else name
            from torchvision.transforms.v2 import functional as F

            pixels = F.pil_to_tensor(self.resize(read_image(item, name=name), name=name))
        if pixels.ndim != 3:
            raise SignalError(f"{name} has shape {tuple(pixels.shape)}; an image tensor has shape (C, H, W) and a batch {self.spec.shape}")
        return self._fit(checked_values(pixels[None], self.spec, name), size, name)[0]

    @property
    def _tensor_size(self) -> int | None:
        return None if self.tensors_keep_size else self.size

    def _fit(self, batch: Tensor, size: int | None, name: str) -> Tensor:
        height, width = batch.shape[-2:]
        if size is None:
            return batch
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional as F

        if not self._has_size(height, width):
            self._check_length(height, width, name)
            mode = InterpolationMode.BICUBIC if self.interpolation == "lanczos" else InterpolationMode(self.interpolation)
            batch = self.spec.clamp(F.resize(batch, self._resized_to(size), interpolation=mode, antialias=True))
        return F.center_crop(batch, [size, size])

    def _has_size(self, height: int, width: int) -> bool:
        """Whether nothing is left to resize."""
        return min(height, width) == self.size and (self.fit == "crop" or height == width)

    def _resized_to(self, size: int) -> list[int]:
        """What torchvision's `resize` takes: the shorter side, or both."""
        return [size] if self.fit == "crop" else [size, size]

    def _check_length(self, height: int, width: int, name: str) -> None:
        """An image of 1 x 80,000,000 pixels passes every bound until its shorter side is enlarged."""
        if self.fit == "crop" and self.size is not None and self.size**2 * max(height, width) > MAX_PIXELS * min(height, width):
            raise SignalError(f"{name} has {height} x {width} pixels: too elongated to resize the shorter side to {self.size}; crop it first")
