"""The patch discriminator of the TiTok line: blur-pooled convolutions and a fixed 16 x 16 map of logits."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.base.noise import NoiseLike
from visiontok.losses.discriminator import Discriminator
from visiontok.losses.pixels import RGB, check_images, to_unit
from visiontok.signals.spec import SignalSpec


class BlurPoolDiscriminatorConfig(Config):
    """Sizes.

    Attributes:
        hidden_channels: channels of the first stage; later stages are 1, 2, 4, 4 ... times as wide.
        num_stages: stages, each halving the resolution.
    """

    type: Literal["blur_pool"] = "blur_pool"
    hidden_channels: int = Field(default=128, gt=0, multiple_of=32)
    num_stages: int = Field(default=3, gt=0, le=3)

    def build(self, signal: SignalSpec = RGB) -> BlurPoolDiscriminator:
        """The discriminator of such signals, with random weights.

        Raises:
            ConfigError: if the signals are no images or videos.
        """
        check_images(signal, name="the discriminator 'blur_pool'")
        return BlurPoolDiscriminator(self, signal=signal)


class SameConv2d(nn.Conv2d):
    """A convolution that pads as TensorFlow's "SAME": ceil(size / stride) outputs, the smaller half of the padding first."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        return super().forward(_pad_same(x, self.kernel_size[0], self.stride[0]))


class BlurPool(nn.Module):
    """Halve the resolution after a [1, 3, 3, 1] low-pass filter (Zhang 2019)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float32)
        kernel = torch.outer(taps, taps)
        self.register_buffer("kernel", (kernel / kernel.sum())[None, None])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2))."""
        channels = x.shape[1]
        return F.conv2d(_pad_same(x, 4, 2), self.kernel.expand(channels, 1, 4, 4), stride=2, groups=channels)


class BlurPoolDiscriminator(Discriminator):
    """Convolution stages with blur pooling, adaptive max pooling to 16 x 16, a map of logits."""

    def __init__(self, config: BlurPoolDiscriminatorConfig, *, signal: SignalSpec) -> None:
        super().__init__()
        self.signal = signal
        width = config.hidden_channels
        widths = [width * mult for mult in (1, 1, 2, 4)[: config.num_stages + 1]]
        self.block_in = nn.Sequential(SameConv2d(signal.channels, width, 5), nn.LeakyReLU(0.1))
        self.blocks = nn.ModuleList(
            nn.Sequential(SameConv2d(before, after, 3), BlurPool(), nn.GroupNorm(32, after), nn.LeakyReLU(0.1)) for before, after in pairwise(widths)
        )
        self.pool = nn.AdaptiveMaxPool2d((16, 16))
        self.to_logits = nn.Sequential(SameConv2d(widths[-1], widths[-1], 1), nn.LeakyReLU(0.1), SameConv2d(widths[-1], 1, 5))

    def forward(self, images: Tensor, noise: NoiseLike = None) -> Tensor:
        """(B, C, H, W) -> logits (B, 1, 16, 16)."""
        x = self.block_in(to_unit(images, self.signal))
        for block in self.blocks:
            x = block(x)
        return self.to_logits(self.pool(x))


def _pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    height, width = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:])
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
