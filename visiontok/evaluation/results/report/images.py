"""Pictures for a report: from tensors, of differences, of tokens; and their embedding in a page."""

from __future__ import annotations

import base64
import colorsys
import io

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.results.report.sections import Picture
from visiontok.tokens import Latents, Tokens


def to_picture(image: Tensor) -> Picture:
    """(3, H, W), uint8 or floats in [0, 1] -> (H, W, 3) uint8."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise EvaluationError(f"a picture is (3, H, W), got {tuple(image.shape)}")
    pixels = image if image.dtype == torch.uint8 else to_uint8(image.float())
    return pixels.detach().cpu().permute(1, 2, 0).contiguous().numpy()


def to_pictures(images: Tensor) -> list[Picture]:
    """A batch (B, 3, H, W) as pictures."""
    return [to_picture(image) for image in images]


def difference_picture(first: Picture, second: Picture, *, gain: float = 4.0) -> Picture:
    """Absolute difference per channel, brightened `gain` times; black where both agree."""
    gap = np.abs(first.astype(np.int16) - second.astype(np.int16))
    return np.clip(gap * gain, 0, 255).astype(np.uint8)


def token_picture(ids: ArrayLike, vocab_size: int, *, cell: int = 12) -> Picture:
    """Ids as coloured squares, equal ids in equal colours.

    Args:
        ids: (h, w) int, or (L,) which is laid out in rows of about the square root.
        vocab_size: K; neighbouring ids get distant hues.
        cell: side of a square in pixels.
    """
    grid = np.asarray(ids, dtype=np.int64)
    if grid.ndim == 1:
        columns = int(np.ceil(np.sqrt(len(grid))))
        padded = np.full(-(-len(grid) // columns) * columns, -1)
        padded[: len(grid)] = grid
        grid = padded.reshape(-1, columns)
    if grid.ndim != 2 or grid.max(initial=0) >= vocab_size:
        raise EvaluationError(f"ids of shape {grid.shape} up to {grid.max(initial=0)} cannot be drawn for a vocabulary of {vocab_size}")
    colours = {int(index): _colour(int(index)) for index in np.unique(grid)}
    picture = np.asarray([[colours[int(index)] for index in row] for row in grid], dtype=np.uint8)
    return picture.repeat(cell, axis=0).repeat(cell, axis=1)


def token_map(tokens: Tokens | Latents, *, side: int) -> Picture | None:
    """The ids of the first sample as coloured squares, about `side` pixels wide; None for continuous latents.

    A grid is drawn as it lies, of several ids at a position the first; everything else row by row in storage order.
    """
    if isinstance(tokens, Latents):
        return None
    (first, *others) = tokens.layout.segments
    ids = tokens.indices[0, : int(tokens.sample_lengths[0])]
    if not others and len(first.shape) == 2 and tokens.is_full:
        ids = tokens[:1].view()[0].reshape(*first.shape, -1)[..., 0]
    columns = ids.shape[1] if ids.ndim == 2 else int(np.ceil(np.sqrt(len(ids))))
    return token_picture(ids.numpy(), int(tokens.layout.vocab_sizes.max()), cell=max(1, side // columns))


def data_uri(picture: Picture) -> str:
    """The picture as a PNG inside the page."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _colour(index: int) -> tuple[int, int, int]:
    """Hues a golden angle apart, in three lightnesses; grey for a place without an id."""
    if index < 0:
        return 128, 128, 128
    red, green, blue = colorsys.hls_to_rgb(index * 0.61803398875 % 1, (0.42, 0.56, 0.7)[index % 3], 0.62)
    return round(red * 255), round(green * 255), round(blue * 255)
