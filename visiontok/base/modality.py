"""The kinds of signals, and the axes that each has after batch and channels."""

from __future__ import annotations

from typing import Literal, TypeAlias

Modality: TypeAlias = Literal["image", "video", "audio", "features"]

AXES: dict[str, tuple[str, ...]] = {
    "image": ("height", "width"),
    "video": ("frames", "height", "width"),
    "audio": ("samples",),
    "features": ("steps",),
}
"""An image tensor has shape (B, C, H, W), video (B, C, T, H, W), audio and sequences of features (B, C, T)."""
