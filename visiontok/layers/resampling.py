"""Halving and doubling of feature maps between the levels of convolutional nets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, channels_last, contiguous_format, nn
from torch.nn import functional as F

Downsampling = Literal["mean", "conv", "padded_conv"]
Upsampling = Literal["nearest", "depth_to_space"]


class MeanDownsample(nn.Module):
    """The mean of every 2x2 square; no weights."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / 2, W / 2)."""
        return F.avg_pool2d(x, 2)


class ConvDownsample(nn.Module):
    """A 3x3 convolution with stride 2, centered on the upper left pixel of every 2x2 square."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / 2, W / 2)."""
        return self.conv(x)


class PaddedConvDownsample(nn.Module):
    """A 3x3 convolution with stride 2 on an image padded at the right and at the bottom only, so that it is centered on the lower right pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / 2, W / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class NearestUpsample(nn.Module):
    """Nearest-neighbor doubling and a 3x3 convolution, with the convolution before the doubling.

    On the doubled map, the three rows or columns of weights that a pixel reads fall on only two pixels of the small one. So each of the four
    pixels of a doubled square is a 2x2 convolution of the small map, with sums of the weights: 4/9 of the products, and no doubled map to read.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        batch, channels, height, width = x.shape
        layout = channels_last if x.is_contiguous(memory_format=channels_last) else contiguous_format
        padded = F.pad(x, (1, 1, 1, 1))
        part = self._pixels(padded, 0, 0)
        doubled = torch.empty(batch, channels, 2 * height, 2 * width, dtype=part.dtype, device=part.device, memory_format=layout)
        doubled[:, :, ::2, ::2] = part
        for row, column in ((0, 1), (1, 0), (1, 1)):
            doubled[:, :, row::2, column::2] = self._pixels(padded, row, column)
        return doubled

    def _pixels(self, padded: Tensor, row: int, column: int) -> Tensor:
        """The pixels at one position of all doubled squares: (B, C, H + 2, W + 2) -> (B, C, H, W)."""
        weight = _halved(_halved(self.conv.weight, dim=2, odd=row), dim=3, odd=column)
        height, width = padded.shape[2] - 1, padded.shape[3] - 1
        return F.conv2d(padded[:, :, row : row + height, column : column + width], weight, self.conv.bias)


def _halved(weight: Tensor, *, dim: int, odd: int) -> Tensor:
    """Three weights along `dim` as the two that an even or an odd pixel of a doubled map applies to the small one."""
    before, center, after = weight.unbind(dim)
    return torch.stack((before + center, after) if odd else (before, center + after), dim)


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
