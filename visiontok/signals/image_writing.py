"""Images for people: grids, and PNG files."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from visiontok.base.files import replacing
from visiontok.signals.spec import SignalSpec


def as_rgb(values: Tensor, spec: SignalSpec) -> Tensor | None:
    """Signals as images that can be looked at: (B, 3, H, W) in [0, 1]; None for those that have no such form.

    One channel becomes gray, from black at the low end of the range to white (where it is not bounded, at the smallest and the largest value). Of a
    clip the middle frame is taken.

    Args:
        values: (B, C, H, W), or (B, C, T, H, W).
        spec: of these signals.
    """
    if spec.modality not in ("image", "video") or spec.channels not in (1, 3):
        return None
    images = values[:, :, values.shape[2] // 2] if spec.modality == "video" else values
    images = images.float()
    low = images.amin() if spec.low is None else spec.low
    high = images.amax() if spec.high is None else spec.high
    return ((images - low) / (high - low)).clamp(0, 1).expand(-1, 3, -1, -1)


def originals_above_reconstructions(images: Tensor, reconstructions: Tensor, *, columns: int = 8) -> Tensor:
    """Lines of up to `columns` images (B, 3, H, W) in [0, 1], each line above its reconstructions; returns (3, height, width)."""
    columns = min(columns, len(images))
    white = images.new_ones((-len(images) % columns, *images.shape[1:]))
    rows = [torch.cat([batch, white]).unflatten(0, (-1, columns)) for batch in (images, reconstructions)]
    return image_grid(torch.stack(rows, dim=1).flatten(0, 2), columns=columns)


def image_grid(images: Tensor, *, columns: int) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] in rows of `columns`; returns (3, height, width)."""
    return make_grid(images.float().clamp(0, 1), nrow=columns, padding=2, pad_value=1.0)


def to_pil(image: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] as an image of 8 bits, every value rounded to the nearest."""
    return Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def save_image(image: Tensor, path: Path) -> None:
    """Write (3, H, W) in [0, 1] as PNG; the file gets its name when it is whole."""
    with replacing(path) as temporary:
        to_pil(image).save(temporary, format="PNG")
