"""Halving and doubling of feature maps between the levels of convolutional nets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Downsampling = Literal["mean", "conv", "padded_conv"]
Upsampling = Literal["nearest", "depth_to_space"]


class MeanDownsample(nn.Module):
    """The mean of every 2x2 square; no weights."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / 2, W / 2)."""
        return F.avg_pool2d(x, 2)


class ConvDownsample(nn.Module):
    """A 3x3 convolution with stride 2, centred on the upper left pixel of every 2x2 square."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / 2, W / 2)."""
        return self.conv(x)


class PaddedConvDownsample(nn.Module):
    """A 3x3 convolution with stride 2 on an image padded at the right and at the bottom only, so that it is centred on the lower right pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / 2, W / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class NearestUpsample(nn.Module):
    """Nearest-neighbour doubling and a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class DepthToSpaceUpsample(nn.Module):
    """A 3x3 convolution to four times the channels, which become 2x2 squares; channel (2 y + x) * C + c is channel c of pixel (y, x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        batch, channels, height, width = x.shape
        squares = self.conv(x).permute(0, 2, 3, 1).reshape(batch, height, width, 2, 2, channels)  # channels last: no copy
        return squares.permute(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


DOWNSAMPLE: dict[Downsampling, Callable[[int], nn.Module]] = {
    "mean": lambda _channels: MeanDownsample(),
    "conv": ConvDownsample,
    "padded_conv": PaddedConvDownsample,
}
"""What halves a map of so many channels."""

UPSAMPLE: dict[Upsampling, Callable[[int], nn.Module]] = {"nearest": NearestUpsample, "depth_to_space": DepthToSpaceUpsample}
"""What doubles a map of so many channels."""
