"""The patch discriminator of pix2pix (Isola et al. 2017), which VQGANs train against, and its form for clips."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.base.noise import NoiseLike
from visiontok.losses.discriminator import ClipDiscriminator, Discriminator
from visiontok.losses.pixels import RGB, check_clips, check_images, to_signed
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


class PatchGan3dConfig(Config):
    """The same sizes for clips: kernels, strides and patches along time, too (TATS, arXiv 2204.03638, and OmniTokenizer, arXiv 2406.09399)."""

    type: Literal["patchgan_3d"] = "patchgan_3d"
    channels: Positive = 64
    num_layers: Positive = 3

    def build(self, signal: SignalSpec) -> PatchGan3d:
        """The discriminator of such clips, with random weights.

        Raises:
            ConfigError: if the signals are no videos.
        """
        check_clips(signal, name="the discriminator 'patchgan_3d'")
        return PatchGan3d(self, signal=signal)


class PatchGan(Discriminator):
    """4x4 convolutions with batch norm and leaky ReLU: a logit for every patch of 70 pixels (with three halvings)."""

    def __init__(self, config: PatchGanConfig, *, signal: SignalSpec) -> None:
        super().__init__()
        self.signal = signal
        self.layers = _layers(config, nn.Conv2d, nn.BatchNorm2d, channels=signal.channels, padding=1)

    def forward(self, images: Tensor, noise: NoiseLike = None) -> Tensor:
        """(B, C, H, W) -> logits (B, 1, h, w)."""
        return self.layers(to_signed(images, self.signal))

    def features(self, images: Tensor, noise: NoiseLike = None) -> list[Tensor]:
        return _features(self.layers, to_signed(images, self.signal))


class PatchGan3d(ClipDiscriminator):
    """4x4x4 convolutions, padded so that short clips have patches too: a logit for every patch of clips."""

    def __init__(self, config: PatchGan3dConfig, *, signal: SignalSpec) -> None:
        super().__init__()
        self.signal = signal
        self.layers = _layers(config, nn.Conv3d, nn.BatchNorm3d, channels=signal.channels, padding=2)

    def forward(self, images: Tensor, noise: NoiseLike = None) -> Tensor:
        """(B, C, T, H, W) -> logits (B, 1, t, h, w)."""
        return self.layers(to_signed(images, self.signal))

    def features(self, images: Tensor, noise: NoiseLike = None) -> list[Tensor]:
        return _features(self.layers, to_signed(images, self.signal))


def _layers(
    config: PatchGanConfig | PatchGan3dConfig,
    conv: type[nn.Conv2d | nn.Conv3d],
    norm: type[nn.BatchNorm2d | nn.BatchNorm3d],
    *,
    channels: int,
    padding: int,
) -> nn.Sequential:
    widths = [config.channels * min(2**number, 8) for number in range(config.num_layers + 1)]
    layers: list[nn.Module] = [conv(channels, widths[0], 4, stride=2, padding=padding), nn.LeakyReLU(0.2)]
    for number, (before, after) in enumerate(pairwise(widths), start=1):
        stride = 2 if number < config.num_layers else 1
        layers += [conv(before, after, 4, stride=stride, padding=padding, bias=False), norm(after), nn.LeakyReLU(0.2)]
    layers.append(conv(widths[-1], 1, 4, padding=padding))
    for layer in layers:
        if isinstance(layer, conv):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, norm):
            nn.init.normal_(layer.weight, 1.0, 0.02)
    return nn.Sequential(*layers)


def _features(layers: nn.Sequential, x: Tensor) -> list[Tensor]:
    """What every activation gives, and the logits."""
    maps = []
    for layer in layers:
        x = layer(x)
        if isinstance(layer, nn.LeakyReLU):
            maps.append(x)
    return [*maps, x]
