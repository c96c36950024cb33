"""Square crops for training. A crop is a configuration that can be called."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from PIL import Image
from pydantic import BeforeValidator, Field
from torchvision.transforms.v2 import functional as F

from visiontok.config import Config
from visiontok.preprocessing import ImagePreprocessing


class CenterCrop(Config):
    """The shorter side resized, the centre cut out: what evaluation sees."""

    name: Literal["center"] = "center"

    def __call__(self, image: Image.Image, size: int, resizing: ImagePreprocessing, rng: np.random.Generator) -> Image.Image:
        """A picture of `size` x `size`; nothing is drawn from `rng`."""
        return F.center_crop(resizing.resize(image), [size, size])


class RandomCrop(Config):
    """The shorter side resized, a square cut out anywhere."""

    name: Literal["random"] = "random"

    def __call__(self, image: Image.Image, size: int, resizing: ImagePreprocessing, rng: np.random.Generator) -> Image.Image:
        """A picture of `size` x `size`."""
        resized = resizing.resize(image)
        left, top = (int(rng.integers(length - size + 1)) for length in resized.size)
        return resized.crop((left, top, left + size, top + size))


class RandomScaleCrop(Config):
    """A square cut out anywhere, then resized. A picture that is large enough is never enlarged.

    Attributes:
        min_scale: the square's side lies between this share of the shorter side and the whole of it (log-uniform), but is no smaller than the model's
            input where the picture allows it.
    """

    name: Literal["random_scale"] = "random_scale"
    min_scale: Annotated[float, Field(gt=0, le=1)] = 0.5

    def __call__(self, image: Image.Image, size: int, resizing: ImagePreprocessing, rng: np.random.Generator) -> Image.Image:
        """A picture of `size` x `size`."""
        shorter = min(image.size)
        smallest = max(self.min_scale * shorter, min(size, shorter))
        side = math.exp(rng.uniform(math.log(smallest), math.log(shorter)))
        left, top = (rng.uniform(0, max(length - side, 0)) for length in image.size)
        box = (left, top, min(left + side, image.width), min(top + side, image.height))
        return image.resize((size, size), Image.Resampling[resizing.interpolation.upper()], box=box)


def _from_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Crop: TypeAlias = Annotated[CenterCrop | RandomCrop | RandomScaleCrop, Field(discriminator="name"), BeforeValidator(_from_name)]
"""Any crop; in a recipe its name alone (`crop: random`) or with options (`crop: {name: random_scale, min_scale: 0.3}`)."""
