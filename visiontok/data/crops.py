"""Square crops for training: a part that is the same in every epoch, and can be kept, and a part that is drawn."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from PIL import Image
from pydantic import BeforeValidator, Field
from torchvision.transforms.v2 import functional as F

from visiontok.base.config import Config
from visiontok.signals import ImagePreprocessing


class CenterCrop(Config):
    """The shorter side resized, the center cut out: what evaluation sees."""

    name: Literal["center"] = "center"

    def prepare(self, image: Image.Image, size: int, resizing: ImagePreprocessing) -> Image.Image:
        """The square of `size` x `size`."""
        return F.center_crop(resizing.resize(image), [size, size])

    def cut(self, prepared: Image.Image, size: int, resizing: ImagePreprocessing, rng: np.random.Generator) -> Image.Image:
        """The square that `prepare` cut: nothing is drawn."""
        return prepared


class RandomCrop(Config):
    """The shorter side resized, a square cut out anywhere."""

    name: Literal["random"] = "random"

    def prepare(self, image: Image.Image, size: int, resizing: ImagePreprocessing) -> Image.Image:
        """The image with a shorter side of `size`."""
        return resizing.resize(image)

    def cut(self, prepared: Image.Image, size: int, resizing: ImagePreprocessing, rng: np.random.Generator) -> Image.Image:
        """A square of `size` x `size`."""
        left, top = (int(rng.integers(length - size + 1)) for length in prepared.size)
        return prepared.crop((left, top, left + size, top + size))


class RandomScaleCrop(Config):
    """A square at a random position, then resized. An image that is large enough is never enlarged.

    Attributes:
        min_scale: the square's side lies between this share of the shorter side and the whole of it (log-uniform), but is no smaller than the model's
            input where the image allows it.
    """

    name: Literal["random_scale"] = "random_scale"
    min_scale: Annotated[float, Field(gt=0, le=1)] = 0.5

    def prepare(self, image: Image.Image, size: int, resizing: ImagePreprocessing) -> Image.Image:
        """The image as it is."""
        return image

    def cut(self, prepared: Image.Image, size: int, resizing: ImagePreprocessing, rng: np.random.Generator) -> Image.Image:
        """A square of `size` x `size`."""
        shorter = min(prepared.size)
        smallest = max(self.min_scale * shorter, min(size, shorter))
        side = math.exp(rng.uniform(math.log(smallest), math.log(shorter)))
        left, top = (rng.uniform(0, max(length - side, 0)) for length in prepared.size)
        box = (left, top, min(left + side, prepared.width), min(top + side, prepared.height))
        # Large squares are first reduced by whole factors, to three times the target: several times faster, and hardly a gray level apart.
        return prepared.resize((size, size), Image.Resampling[resizing.interpolation.upper()], box=box, reducing_gap=3.0)


def _from_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Crop: TypeAlias = Annotated[CenterCrop | RandomCrop | RandomScaleCrop, Field(discriminator="name"), BeforeValidator(_from_name)]
"""Any crop; in a recipe its name alone (`crop: random`) or with options (`crop: {name: random_scale, min_scale: 0.3}`)."""
