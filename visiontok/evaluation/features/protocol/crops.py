"""From an image of any size to the square that a published evaluation scores."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from PIL import Image

from visiontok.base.errors import EvaluationError

Crop: TypeAlias = Literal["adm", "center", "resize-bicubic", "resize-bilinear", "resize-lanczos"]
CROPS: tuple[Crop, ...] = get_args(Crop)

_FILTERS = {
    "resize-bicubic": Image.Resampling.BICUBIC,
    "resize-bilinear": Image.Resampling.BILINEAR,
    "resize-lanczos": Image.Resampling.LANCZOS,
}


def center_crop(image: Image.Image, size: int, *, crop: Crop) -> Image.Image:
    """An RGB image of `size` x `size`.

    Args:
        image: of any size.
        size: side in pixels.
        crop: `adm` halves with a box filter while the shorter side is at least twice `size`, then resizes bicubically, rounding both
            sides, and crops from the floored corner; `center` resizes nothing, crops from the rounded corner and pads smaller images with
            black; `resize-*` shrink or enlarge the shorter side with antialiasing, cutting off the fraction of the longer one, and crop
            from the rounded corner.

    Raises:
        EvaluationError: for an unknown crop.
    """
    image = image.convert("RGB")
    if crop == "adm":
        while min(image.size) >= 2 * size:
            image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        scale = size / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - size) // 2, (image.height - size) // 2
    elif crop == "center" or crop in _FILTERS:
        if crop in _FILTERS:
            short = min(image.size)
            image = image.resize((size * image.width // short, size * image.height // short), _FILTERS[crop])
        left, top = (_rounded_start(side, size) for side in image.size)
    else:
        raise EvaluationError(f"there is no crop {crop!r}; known: {', '.join(CROPS)}")
    return image.crop((left, top, left + size, top + size))


def _rounded_start(side: int, size: int) -> int:
    """Where the square begins; below 0 where it is padded, as torchvision does."""
    return round((side - size) / 2) if side >= size else -((size - side) // 2)
