"""Discriminators of sound: of its periods, spectra, magnitudes and averages. Each gives its feature maps, of which the last are the logits."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from visiontok.base.config import Config, Positive
from visiontok.layers.seanet import reflected

_SLOPE = 0.1  # of the leaky ReLU


class SoundDiscriminatorConfig(Config):
    """What every kind has.

    Attributes:
        weight: of the losses of each of its networks, beside those of the other kinds.
    """

    weight: float = Field(default=1.0, gt=0)

    @abstractmethod
    def build(self, channels: int) -> list[nn.Module]:
        """Its networks, with random weights, for sound of so many channels."""


class PeriodsConfig(SoundDiscriminatorConfig):
    """HiFi-GAN's multi-period discriminator (Kong et al. 2020, arXiv 2010.05646); BigCodec's has 16 channels of at most 512.

    Attributes:
        periods: in samples; one network for each.
        channels: after the first convolution; four times as many after every further one.
        max_channels: at most.
    """

    type: Literal["periods"] = "periods"
    periods: tuple[Positive, ...] = Field(default=(2, 3, 5, 7, 11), min_length=1)
    channels: Positive = 32
    max_channels: Positive = 1024

    def build(self, channels: int) -> list[nn.Module]:
        """One network per period, for sound of so many channels."""
        return [PeriodDiscriminator(self, period, channels=channels) for period in self.periods]


class SpectraConfig(SoundDiscriminatorConfig):
    """A discriminator of complex spectra at several resolutions. The default splits them into bands as DAC does; without bands and with
    `dilations: [1, 2, 4]` it is EnCodec's.

    Attributes:
        n_ffts: samples of a window (Hann), a network for each; a quarter of it lies between windows.
        bands: edges as shares of the frequencies, from 0 to 1; every band has convolutions of its own.
        channels: of all convolutions.
        dilations: in time, of the convolutions that halve the frequencies.
    """

    type: Literal["spectra"] = "spectra"
    n_ffts: tuple[Positive, ...] = Field(default=(2048, 1024, 512), min_length=1)
    bands: tuple[float, ...] = Field(default=(0.0, 0.1, 0.25, 0.5, 0.75, 1.0), min_length=2)
    channels: Positive = 32
    dilations: tuple[Positive, ...] = (1, 1, 1)

    @model_validator(mode="after")
    def _check(self) -> SpectraConfig:
        if self.bands[0] != 0 or self.bands[-1] != 1 or list(self.bands) != sorted(set(self.bands)):
            raise ValueError(f"bands {self.bands} must rise from 0 to 1")
        for n_fft in self.n_ffts:
            if n_fft % 4 or any(high - low < 1 for low, high in pairwise(self.edges(n_fft))):
                raise ValueError(f"n_fft {n_fft} must be a multiple of 4 with a frequency in each of the bands {self.bands}")
        return self

    def edges(self, n_fft: int) -> list[int]:
        """The frequencies between which the bands lie."""
        return [int(share * (n_fft // 2 + 1)) for share in self.bands]

    def build(self, channels: int) -> list[nn.Module]:
        """One network per resolution, for sound of so many channels."""
        return [SpectrumDiscriminator(self, n_fft, channels=channels) for n_fft in self.n_ffts]


class MagnitudesConfig(SoundDiscriminatorConfig):
    """Vocos' multi-resolution discriminator (Siuzdak 2023, arXiv 2306.00814, after UnivNet, arXiv 2106.07889) of the magnitudes of spectra.

    Attributes:
        n_ffts: samples of a window (rectangular), a network for each; a quarter of it lies between windows.
        channels: of all convolutions.
    """

    type: Literal["magnitudes"] = "magnitudes"
    n_ffts: tuple[Annotated[int, Field(ge=4, multiple_of=4)], ...] = Field(default=(1024, 2048, 512), min_length=1)
    channels: Positive = 64

    def build(self, channels: int) -> list[nn.Module]:
        """One network per resolution, for sound of so many channels."""
        return [MagnitudeDiscriminator(self, n_fft, channels=channels) for n_fft in self.n_ffts]


class ScalesConfig(SoundDiscriminatorConfig):
    """MelGAN's multi-scale discriminator (Kumar et al. 2019, arXiv 1910.06711).

    Attributes:
        factors: by which the sound is averaged, a network for each.
        channels: after the first convolution; four times as many after every further one.
        max_channels: at most.
    """

    type: Literal["scales"] = "scales"
    factors: tuple[Positive, ...] = Field(default=(1, 2, 4), min_length=1)
    channels: Positive = 16
    max_channels: Positive = 1024

    def build(self, channels: int) -> list[nn.Module]:
        """One network per factor, for sound of so many channels."""
        return [ScaleDiscriminator(self, factor, channels=channels) for factor in self.factors]


AnyDiscriminatorConfig: TypeAlias = Annotated[PeriodsConfig | SpectraConfig | MagnitudesConfig | ScalesConfig, Field(discriminator="type")]


class SoundDiscriminators(nn.ModuleList):
    """The networks of several configurations, side by side.

    Args:
        configs: of them.
        channels: of the sound.

    Attributes:
        weights: of the losses of each.
    """

    def __init__(self, configs: Sequence[SoundDiscriminatorConfig], *, channels: int) -> None:
        built = [(network, config.weight) for config in configs for network in config.build(channels)]
        super().__init__(network for network, _ in built)
        self.weights = [weight for _, weight in built]

    def forward(self, sound: Tensor) -> list[list[Tensor]]:
        """(B, C, T) -> of every network its feature maps (B, ...), the last one the logits, large for real sound."""
        return [network(sound) for network in self]


class PeriodDiscriminator(nn.Module):
    """Sees the samples that lie a period apart: two-dimensional convolutions along them, after folding (B, C, T) to (B, C, T / period, period)."""

    def __init__(self, config: PeriodsConfig, period: int, *, channels: int) -> None:
        super().__init__()
        self.period = period
        widths = [channels, *(min(config.channels * 4**number, config.max_channels) for number in range(5))]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(before, after, (5, 1), stride=(3 if number < 4 else 1, 1), padding=(2, 0)))
            for number, (before, after) in enumerate(pairwise(widths))
        )
        self.logits = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, sound: Tensor) -> list[Tensor]:
        """(B, C, T) -> six feature maps (B, C', t, period)."""
        x = reflected(sound, 0, -sound.shape[-1] % self.period).unflatten(-1, (-1, self.period))
        return _features(x, self.layers, self.logits)


class SpectrumDiscriminator(nn.Module):
    """Sees real and imaginary parts of short-time spectra, band by band."""

    window: Tensor

    def __init__(self, config: SpectraConfig, n_fft: int, *, channels: int) -> None:
        super().__init__()
        self.n_fft, self.edges = n_fft, config.edges(n_fft)
        self.register_buffer("window", torch.hann_window(n_fft, dtype=torch.float32), persistent=False)
        width = config.channels
        self.bands = nn.ModuleList(
            nn.ModuleList(
                [
                    weight_norm(nn.Conv2d(2 * channels, width, (3, 9), padding=(1, 4))),
                    *(
                        weight_norm(nn.Conv2d(width, width, (3, 9), stride=(1, 2), dilation=(dilation, 1), padding=(dilation, 4)))
                        for dilation in config.dilations
                    ),
                    weight_norm(nn.Conv2d(width, width, (3, 3), padding=(1, 1))),
                ]
            )
            for _ in pairwise(self.edges)
        )
        self.logits = weight_norm(nn.Conv2d(width, 1, (3, 3), padding=(1, 1)))

    def forward(self, sound: Tensor) -> list[Tensor]:
        """(B, C, T) -> feature maps (B, C', frames, frequencies) of every band, then the logits of all."""
        with torch.autocast(sound.device.type, enabled=False):
            windows = reflected(sound.float(), self.n_fft // 2, self.n_fft // 2).unfold(-1, self.n_fft, self.n_fft // 4)
            spectrum = torch.fft.rfft(windows * self.window, norm="ortho")  # (B, C, frames, frequencies)
            parts = torch.cat([spectrum.real, spectrum.imag], dim=1)
        features, ends = [], []
        for (low, high), band in zip(pairwise(self.edges), self.bands, strict=True):
            assert isinstance(band, nn.ModuleList)
            *maps, end = _activations(parts[..., low:high], band)
            features += [*maps, end]
            ends.append(end)
        return [*features, self.logits(torch.cat(ends, dim=-1))]


class MagnitudeDiscriminator(nn.Module):
    """Sees magnitudes of short-time spectra: convolutions that halve the frequencies five times, and the frames three times."""

    def __init__(self, config: MagnitudesConfig, n_fft: int, *, channels: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        width = config.channels
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(before, width, kernel, stride=stride, padding=(kernel[0] // 2, kernel[1] // 2)))
            for before, kernel, stride in (
                (channels, (7, 5), (2, 2)),
                (width, (5, 3), (2, 1)),
                (width, (5, 3), (2, 2)),
                (width, (3, 3), (2, 1)),
                (width, (3, 3), (2, 2)),
            )
        )
        self.logits = weight_norm(nn.Conv2d(width, 1, (3, 3), padding=(1, 1)))

    def forward(self, sound: Tensor) -> list[Tensor]:
        """(B, C, T) -> six feature maps (B, C', frequencies, frames)."""
        with torch.autocast(sound.device.type, enabled=False):
            windows = reflected(sound.float(), self.n_fft // 2, self.n_fft // 2).unfold(-1, self.n_fft, self.n_fft // 4)
            magnitudes = torch.fft.rfft(windows).abs().transpose(2, 3)
        return _features(magnitudes, self.layers, self.logits)


class ScaleDiscriminator(nn.Module):
    """Sees the sound itself, or its averages: long grouped convolutions."""

    def __init__(self, config: ScalesConfig, factor: int, *, channels: int) -> None:
        super().__init__()
        self.factor = factor
        widths = [min(config.channels * 4**number, config.max_channels) for number in range(5)]
        strided = [
            nn.Conv1d(before, after, 41, stride=4, padding=20, groups=math.gcd(before, after, max(1, before // 4)))
            for before, after in pairwise(widths)
        ]
        layers = [nn.Conv1d(channels, widths[0], 15, padding=7), *strided, nn.Conv1d(widths[-1], widths[-1], 5, padding=2)]
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)
        self.logits = weight_norm(nn.Conv1d(widths[-1], 1, 3, padding=1))

    def forward(self, sound: Tensor) -> list[Tensor]:
        """(B, C, T) -> seven feature maps (B, C', t)."""
        return _features(F.avg_pool1d(sound, self.factor), self.layers, self.logits)


def _features(x: Tensor, layers: nn.ModuleList, logits: nn.Module) -> list[Tensor]:
    maps = _activations(x, layers)
    return [*maps, logits(maps[-1])]


def _activations(x: Tensor, layers: nn.ModuleList) -> list[Tensor]:
    maps = []
    for layer in layers:
        x = F.leaky_relu(layer(x), _SLOPE)
        maps.append(x)
    return maps
