"""Clips (B, C, T, H, W) frame by frame."""

from __future__ import annotations

from torch import Tensor, nn


class FrameNorm(nn.GroupNorm):
    """One mean and one scale for all of a frame, so that no frame depends on another; a weight and a bias per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        return as_clips(super().forward(as_frames(x)), len(x))


def as_frames(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B * T, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def as_clips(x: Tensor, batch: int) -> Tensor:
    """The inverse of `as_frames`."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)
