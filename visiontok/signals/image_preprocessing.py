"""From whatever a caller holds (tensor, PIL image, array, path) to the batch that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from visiontok.base.config import Config
from visiontok.base.errors import SignalError
from visiontok.signals.image import MAX_PIXELS, read_image

SignalLike: TypeAlias = Tensor | np.ndarray | Image.Image | str | Path | bytes


class ImagePreprocessing(Config):
    """Resize the shorter side, crop the centre, scale to [0, 1].

    Attributes:
        size: the square that files and pictures become; None keeps their size.
        tensors_keep_size: tensors are not resized to `size`, for models that take any multiple of `multiple_of`.
        interpolation: of the resize, always with antialiasing; tensors have no lanczos and are resized bicubically instead.
        multiple_of: sides that are not resized are cropped (centre) to a multiple of this.
    """

    size: Annotated[int, Field(gt=0)] | None = None
    interpolation: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"
    tensors_keep_size: bool = False
    multiple_of: Annotated[int, Field(gt=0)] = 1

    def __call__(self, signal: SignalLike | Sequence[SignalLike]) -> Tensor:
        """A batch (B, 3, H, W) float32 in [0, 1].

        Raises:
            SignalError: naming the file or the batch item, what was found and what is expected.
        """
        if isinstance(signal, Tensor) and signal.ndim == 4:
            return self._fit(_checked(signal, "the batch"), self._tensor_size, "the batch")
        items = list(signal) if isinstance(signal, Sequence) and not isinstance(signal, str | bytes) else [signal]
        if not items:
            raise SignalError("no image was given")
        fitted = [self._one(item, f"item {number}") for number, item in enumerate(items)]
        sizes = {tuple(image.shape[-2:]) for image in fitted}
        if len(sizes) > 1:
            raise SignalError(f"images of different sizes {sorted(sizes)} cannot share a batch of this model; encode them one by one")
        return torch.stack(fitted)

    def resize(self, image: Image.Image, *, name: str = "the image") -> Image.Image:
        """Resize the shorter side to `size` on 8-bit values with PIL, as the published pipelines do for files; unchanged where `size` is None.

        Raises:
            SignalError: if the picture is so long and thin that it would become too large.
        """
        if self.size is None or min(image.size) == self.size:
            return image
        self._check_length(image.height, image.width, name)
        return F.resize(image, [self.size], interpolation=InterpolationMode(self.interpolation), antialias=True)

    def _one(self, item: SignalLike, name: str) -> Tensor:
        pixels: Tensor
        size = self.size
        if isinstance(item, Tensor):
            pixels, size = item, self._tensor_size
        else:
            name = str(item) if isinstance(item, str | Path) else name
            pixels = F.pil_to_tensor(self.resize(read_image(item, name=name), name=name))
        if pixels.ndim != 3:
            raise SignalError(f"{name} has shape {tuple(pixels.shape)}; an image tensor has shape (3, H, W) and a batch (B, 3, H, W)")
        return self._fit(_checked(pixels[None], name), size, name)[0]

    @property
    def _tensor_size(self) -> int | None:
        return None if self.tensors_keep_size else self.size

    def _fit(self, batch: Tensor, size: int | None, name: str) -> Tensor:
        height, width = batch.shape[-2:]
        if size is None:
            target = (height // self.multiple_of * self.multiple_of, width // self.multiple_of * self.multiple_of)
            if 0 in target:
                raise SignalError(f"{name} has {height} x {width} pixels, fewer than the model's stride of {self.multiple_of}")
            return F.center_crop(batch, list(target)) if target != (height, width) else batch
        if min(height, width) != size:
            self._check_length(height, width, name)
            mode = InterpolationMode.BICUBIC if self.interpolation == "lanczos" else InterpolationMode(self.interpolation)
            batch = F.resize(batch, [size], interpolation=mode, antialias=True).clamp(0, 1)
        return F.center_crop(batch, [size, size])

    def _check_length(self, height: int, width: int, name: str) -> None:
        """A picture of 1 x 80,000,000 pixels passes every bound until its shorter side is enlarged."""
        if self.size is not None and self.size**2 * max(height, width) > MAX_PIXELS * min(height, width):
            raise SignalError(f"{name} has {height} x {width} pixels: too long and thin to bring the shorter side to {self.size}; crop it first")


def _checked(batch: Tensor, name: str) -> Tensor:
    if batch.ndim != 4 or batch.shape[1] != 3:
        raise SignalError(f"{name} has shape {tuple(batch.shape)}; expected (B, 3, H, W) with RGB channels second")
    if batch.numel() == 0:
        raise SignalError(f"{name} has shape {tuple(batch.shape)}: it holds no pixel")
    if batch.dtype == torch.uint8:
        return batch.float() / 255
    if not batch.is_floating_point():
        raise SignalError(f"{name} is {batch.dtype}; expected floats in [0, 1] or uint8")
    low, high = (float(value) for value in torch.aminmax(batch.detach()))
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        if low != low:
            raise SignalError(f"{name} holds NaN; expected values in [0, 1]")
        hint = "it looks like [-1, 1]: use (x + 1) / 2" if low >= -1.001 and high <= 1.001 else "scale it first"
        raise SignalError(f"{name} has values in [{low:.4g}, {high:.4g}]; expected [0, 1]: {hint}")
    return batch.float()
