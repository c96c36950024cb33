"""Sample pictures as one PNG grid."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from visiontok.base.files import replacing


def originals_above_reconstructions(images: Tensor, reconstructions: Tensor, *, columns: int = 8) -> Tensor:
    """Lines of up to `columns` images (B, 3, H, W) in [0, 1], each line above its reconstructions; returns (3, height, width)."""
    columns = min(columns, len(images))
    white = images.new_ones((-len(images) % columns, *images.shape[1:]))
    rows = [torch.cat([batch, white]).unflatten(0, (-1, columns)) for batch in (images, reconstructions)]
    return grid(torch.stack(rows, dim=1).flatten(0, 2), columns=columns)


def grid(images: Tensor, *, columns: int) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] in rows of `columns`; returns (3, height, width)."""
    return make_grid(images.float().clamp(0, 1), nrow=columns, padding=2, pad_value=1.0)


def save_picture(picture: Tensor, path: Path) -> None:
    """Write (3, H, W) in [0, 1] as PNG; the file gets its name when it is whole."""
    pixels = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
