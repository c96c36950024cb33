"""The patch discriminator of pix2pix (Isola et al. 2017), which VQGANs train against."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.base.noise import NoiseLike
from visiontok.losses.discriminator import Discriminator
from visiontok.losses.pixels import RGB, check_images, to_signed
from visiontok.signals.spec import SignalSpec


class PatchGanConfig(Config):
    """Sizes.

    Attributes:
        channels: after the first convolution; they double with every further one, up to eight times as many.
        num_layers: convolutions that halve the resolution.
    """

    type: Literal["patchgan"] = "patchgan"
    channels: Positive = 64
    num_layers: Positive = 3

    def build(self, signal: SignalSpec = RGB) -> PatchGan:
        """The discriminator of such signals, with random weights.

        Raises:
            ConfigError: if the signals are no images or videos.
        """
        check_images(signal, name="the discriminator 'patchgan'")
        return PatchGan(self, signal=signal)


class PatchGan(Discriminator):
    """4x4 convolutions with batch norm and leaky ReLU: a logit for every patch of 70 pixels (with three halvings)."""

    def __init__(self, config: PatchGanConfig, *, signal: SignalSpec) -> None:
        super().__init__()
        self.signal = signal
        widths = [config.channels * min(2**number, 8) for number in range(config.num_layers + 1)]
        layers: list[nn.Module] = [nn.Conv2d(signal.channels, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for number, (before, after) in enumerate(pairwise(widths), start=1):
            stride = 2 if number < config.num_layers else 1
            layers += [nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
        layers.append(nn.Conv2d(widths[-1], 1, 4, padding=1))
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1.0, 0.02)

    def forward(self, images: Tensor, noise: NoiseLike = None) -> Tensor:
        """(B, C, H, W) -> logits (B, 1, h, w)."""
        return self.layers(to_signed(images, self.signal))
