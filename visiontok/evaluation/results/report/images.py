"""Images for a report: of signals, of differences, of tokens; and their embedding in a page."""

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
from visiontok.evaluation.results.report.sections import ImageArray
from visiontok.signals import SignalSpec
from visiontok.tokens import Latents, Tokens


def to_image_array(image: Tensor) -> ImageArray:
    """(3, H, W), uint8 or floats in [0, 1] -> (H, W, 3) uint8."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise EvaluationError(f"an image is (3, H, W), got {tuple(image.shape)}")
    pixels = image if image.dtype == torch.uint8 else to_uint8(image.float())
    return pixels.detach().cpu().permute(1, 2, 0).contiguous().numpy()


def to_image_arrays(images: Tensor) -> list[ImageArray]:
    """A batch (B, 3, H, W) as images."""
    return [to_image_array(image) for image in images]


def difference_image(first: ImageArray, second: ImageArray, *, gain: float = 4.0) -> ImageArray:
    """Absolute difference per channel, brightened `gain` times; black where both agree."""
    gap = np.abs(first.astype(np.int16) - second.astype(np.int16))
    return np.clip(gap * gain, 0, 255).astype(np.uint8)


def token_image(tokens: ArrayLike, vocab_size: int, *, cell: int = 12) -> ImageArray:
    """Tokens as colored squares, equal tokens in equal colors.

    Args:
        tokens: (h, w) int, or (L,) which is laid out in rows of about the square root.
        vocab_size: K; neighboring tokens get distant hues.
        cell: side of a square in pixels.
    """
    grid = np.asarray(tokens, dtype=np.int64)
    if grid.ndim == 1:
        columns = int(np.ceil(np.sqrt(len(grid))))
        padded = np.full(-(-len(grid) // columns) * columns, -1)
        padded[: len(grid)] = grid
        grid = padded.reshape(-1, columns)
    if grid.ndim != 2 or np.max(grid, initial=0) >= vocab_size:
        raise EvaluationError(f"tokens of shape {grid.shape} up to {np.max(grid, initial=0)} cannot be drawn for a vocabulary of {vocab_size}")
    colors = {int(index): _color(int(index)) for index in np.unique(grid)}
    image = np.asarray([[colors[int(index)] for index in row] for row in grid], dtype=np.uint8)
    return image.repeat(cell, axis=0).repeat(cell, axis=1)


def token_map(tokens: Tokens | Latents, *, side: int) -> ImageArray | None:
    """The tokens of the first sample as colored squares, about `side` pixels wide; None for continuous latents.

    A grid is drawn as it lies, of several tokens at a position the first; everything else row by row in storage order.
    """
    if isinstance(tokens, Latents):
        return None
    sample = tokens[:1]
    (first, *others) = sample.layout.segments
    indices = sample.indices[0, : int(sample.sample_lengths[0])]
    if not others and len(first.shape) == 2 and sample.is_full and sample.extents is None:
        indices = sample.view()[0].reshape(*first.shape, -1)[..., 0]
    columns = indices.shape[1] if indices.ndim == 2 else int(np.ceil(np.sqrt(len(indices))))
    return token_image(indices.numpy(), int(sample.layout.vocab_sizes.max()), cell=max(1, side // columns))


def signal_image(signal: Tensor, spec: SignalSpec) -> ImageArray | None:
    """A signal (C, *axes) to look at: an image, the middle frame of a clip, one channel in gray; None for sound and features."""
    if spec.modality not in ("image", "video"):
        return None
    frame = signal if spec.modality == "image" else signal[:, signal.shape[1] // 2]
    if frame.dtype == torch.uint8 or spec.is_rgb:
        return to_image_array(frame)
    low, high = (float(value) if bound is None else bound for value, bound in zip(torch.aminmax(frame), (spec.low, spec.high), strict=True))
    gray = (frame[:1].float() - low) / max(high - low, 1e-12)
    return to_image_array(gray.clamp(0, 1).expand(3, -1, -1))


def data_uri(image: ImageArray) -> str:
    """The image as a PNG inside the page."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _color(index: int) -> tuple[int, int, int]:
    """Hues a golden angle apart, in three lightnesses; gray for a position without a token."""
    if index < 0:
        return 128, 128, 128
    red, green, blue = colorsys.hls_to_rgb(index * 0.61803398875 % 1, (0.42, 0.56, 0.7)[index % 3], 0.62)
    return round(red * 255), round(green * 255), round(blue * 255)
