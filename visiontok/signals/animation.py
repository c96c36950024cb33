"""Clips as animated images, which browsers show without a codec or a player."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import torch
from torch import Tensor

from visiontok.base.errors import SignalError
from visiontok.signals.image_writing import image_grid, to_pil

LOSSLESS_VALUES = 2**21
"""Clips of up to so many values keep every one of them; larger ones are compressed as photographs are, in good quality."""


def encode_animation(clip: Tensor, *, rate: float) -> bytes:
    """(3, T, H, W) in [0, 1] as the bytes of an animated WebP file that plays again and again.

    Args:
        clip: one frame or more.
        rate: frames per second; a frame is shown for a whole number of milliseconds, at least one.

    Raises:
        SignalError: for other shapes.
    """
    if clip.ndim != 4 or clip.shape[0] != 3 or not clip.numel():
        raise SignalError(f"an animation is made of a clip (3, T, H, W), got {tuple(clip.shape)}")
    first, *others = [to_pil(frame) for frame in clip.detach().float().clamp(0, 1).unbind(1)]
    buffer = BytesIO()
    is_small = clip.numel() <= LOSSLESS_VALUES
    duration = max(1, round(1000 / rate))
    first.save(buffer, format="WebP", save_all=True, append_images=others, duration=duration, loop=0, lossless=is_small, quality=90)
    return buffer.getvalue()


def animation_grid(clips: Sequence[Tensor], *, columns: int) -> Tensor:
    """Clips (3, T, H, W) of one frame size in rows of `columns`, as one clip (3, T, height, width); shorter ones stop at their last frame."""
    longest = max(clip.shape[1] for clip in clips)
    held = [torch.cat([clip, clip[:, -1:].expand(-1, longest - clip.shape[1], -1, -1)], dim=1) for clip in clips]
    return torch.stack([image_grid(torch.stack(frames), columns=columns) for frames in zip(*(clip.unbind(1) for clip in held), strict=True)], dim=1)
