"""From whatever a caller holds (tensor, PIL image, array, path) to the batch that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from visiontok.config import Config
from visiontok.errors import SignalError
from visiontok.images import read_image

SignalLike: TypeAlias = Tensor | np.ndarray | Image.Image | str | Path


class ImagePreprocessing(Config):
    """Resize the shorter side, crop the centre, scale to [0, 1].

    Attributes:
        size: the square that the model takes; None for models that take any multiple of `multiple_of`.
        interpolation: of the resize, always with antialiasing.
        multiple_of: sides are cropped (centre) to a multiple of this where `size` is None.
    """

    size: int | None = None
    interpolation: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"
    multiple_of: int = 1

    def __call__(self, signal: SignalLike | Sequence[SignalLike]) -> Tensor:
        """A batch (B, 3, H, W) float32 in [0, 1].

        Raises:
            SignalError: naming the file or the batch item, what was found and what is expected.
        """
        if isinstance(signal, Tensor) and signal.ndim == 4:
            return self._fit(_checked(signal, "the batch"))
        items = list(signal) if isinstance(signal, list | tuple) else [signal]
        if not items:
            raise SignalError("no image was given")
        fitted = [self._one(item, f"item {number}") for number, item in enumerate(items)]
        sizes = {tuple(image.shape[-2:]) for image in fitted}
        if len(sizes) > 1:
            raise SignalError(f"images of different sizes {sorted(sizes)} cannot share a batch of this model; encode them one by one")
        return torch.stack(fitted)

    def _one(self, item: SignalLike, name: str) -> Tensor:
        if isinstance(item, Tensor):
            if item.ndim != 3:
                raise SignalError(f"{name} has shape {tuple(item.shape)}; an image tensor has shape (3, H, W) and a batch (B, 3, H, W)")
            return self._fit(_checked(item[None], name))[0]
        return self._fit(F.to_dtype(F.to_image(self._shrink(read_image(item))), torch.float32, scale=True)[None])[0]

    def _shrink(self, image: Image.Image) -> Image.Image:
        """Resize on 8-bit values with PIL, as the published pipelines do for files."""
        if self.size is None or min(image.size) == self.size:
            return image
        return F.resize(image, [self.size], interpolation=InterpolationMode(self.interpolation), antialias=True)

    def _fit(self, batch: Tensor) -> Tensor:
        height, width = batch.shape[-2:]
        if self.size is None:
            target = (height // self.multiple_of * self.multiple_of, width // self.multiple_of * self.multiple_of)
            if 0 in target:
                raise SignalError(f"an image of {height} x {width} pixels is smaller than the model's stride of {self.multiple_of}")
            return F.center_crop(batch, list(target)) if target != (height, width) else batch
        if min(height, width) != self.size:
            mode = InterpolationMode.BICUBIC if self.interpolation == "lanczos" else InterpolationMode(self.interpolation)
            batch = F.resize(batch, [self.size], interpolation=mode, antialias=True).clamp(0, 1)
        return F.center_crop(batch, [self.size, self.size])


def _checked(batch: Tensor, name: str) -> Tensor:
    if batch.ndim != 4 or batch.shape[1] != 3:
        raise SignalError(f"{name} has shape {tuple(batch.shape)}; expected (B, 3, H, W) with RGB channels second")
    if batch.dtype == torch.uint8:
        return batch.float() / 255
    if not batch.is_floating_point():
        raise SignalError(f"{name} is {batch.dtype}; expected floats in [0, 1] or uint8")
    low, high = (float(value) for value in torch.aminmax(batch)) if batch.numel() else (0.0, 0.0)
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        hint = "it looks like [-1, 1]: use (x + 1) / 2" if -1.001 <= low and high <= 1.001 else "scale it first"
        raise SignalError(f"{name} has values in [{low:.4g}, {high:.4g}]; expected [0, 1]: {hint}")
    return batch.float() if batch.dtype == torch.float64 else batch
