"""The resizing rules in front of feature networks. They look alike and give distances that cannot be compared."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.errors import EvaluationError

Resize: TypeAlias = Literal["tf1-bilinear", "torch-bilinear", "torch-bilinear-antialias", "clean"]
RESIZES: tuple[Resize, ...] = get_args(Resize)


def resize_for_inception(images: Tensor, *, rule: Resize, size: int = 299) -> Tensor:
    """Square float32 images (B, 3, size, size) on the 0 ... 255 scale, not rounded.

    Args:
        images: (B, 3, H, W) uint8.
        rule: `tf1-bilinear` is TensorFlow 1's (source = target * in / out without a half-pixel offset, no antialiasing): torch-fidelity
            and ADM; `torch-bilinear` has the offset: pytorch-fid; `torch-bilinear-antialias`: recent torchmetrics; `clean` is PIL's
            bicubic with antialiasing on floats, clipped: clean-fid.
        size: side in pixels.

    Raises:
        EvaluationError: for an unknown rule or images that are not uint8.
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise EvaluationError(f"expected uint8 images (B, 3, H, W), got {images.dtype} {tuple(images.shape)}")
    if rule == "tf1-bilinear":
        return _tf1_bilinear(images.float(), size)
    if rule in ("torch-bilinear", "torch-bilinear-antialias"):
        return F.interpolate(images.float(), size=(size, size), mode="bilinear", align_corners=False, antialias=rule.endswith("antialias"))
    if rule == "clean":
        planes = [[_pil_bicubic(channel, size) for channel in image] for image in images.cpu().numpy()]
        return torch.from_numpy(np.asarray(planes)).clamp(0, 255).to(images.device)
    raise EvaluationError(f"there is no resize {rule!r}; known: {', '.join(RESIZES)}")


def resize_images(images: Tensor, *, size: int) -> Tensor:
    """(B, 3, size, size) uint8 by PIL's bicubic resize with antialiasing, on images (B, 3, H, W) uint8, aspect not kept."""
    resized = [Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in images.permute(0, 2, 3, 1).cpu().numpy()]
    return torch.from_numpy(np.stack([np.asarray(image) for image in resized])).permute(0, 3, 1, 2).to(images.device)


def _tf1_bilinear(images: Tensor, size: int) -> Tensor:
    for axis in (2, 3):
        length = images.shape[axis]
        source = torch.arange(size, dtype=torch.float32, device=images.device) * (length / size)
        lower = source.floor().long()
        upper = (lower + 1).clamp_max(length - 1)
        weight = (source - lower).unsqueeze(-1) if axis == 2 else source - lower
        below, above = images.index_select(axis, lower), images.index_select(axis, upper)
        images = below + (above - below) * weight
    return images


def _pil_bicubic(channel: np.ndarray, size: int) -> np.ndarray:
    image = Image.fromarray(channel.astype(np.float32), mode="F")
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
