"""Distances of sounds between their logarithmic mel spectrograms, at one or several resolutions."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.layers.mel import MelScale, MelSpectrogram


class MelResolution(Config):
    """One of the spectrograms.

    Attributes:
        n_fft: samples of a window.
        hop: samples between windows.
        num_bins: of the mel scale.
        weight: of its distance.
    """

    n_fft: Positive
    hop: Positive
    num_bins: Positive
    weight: float = Field(default=1.0, gt=0)


class MelConfig(Config):
    """The default is DAC's distance, which BigCodec shares (arXiv 2306.06546, section 3.4).

    Attributes:
        resolutions: whose distances are added up.
        scale: of frequencies.
        log: of the magnitudes.
        floor: the least magnitude.
        l2_weight: of the root mean square of the differences of every frame, beside their mean absolute value; EnCodec's spectral loss has 1.
    """

    resolutions: tuple[MelResolution, ...] = Field(
        default=tuple(MelResolution(n_fft=2**number, hop=2 ** (number - 2), num_bins=5 * 2 ** (number - 5)) for number in range(5, 12)), min_length=1
    )
    scale: MelScale = "slaney"
    log: Literal["log10", "ln"] = "log10"
    floor: float = Field(default=1e-5, gt=0)
    l2_weight: float = Field(default=0.0, ge=0)


class MelDistance(nn.Module):
    """See `MelConfig`.

    Args:
        config: of the spectrograms.
        sample_rate: in Hz.
    """

    def __init__(self, config: MelConfig, *, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.spectrograms = nn.ModuleList(
            MelSpectrogram(sample_rate=sample_rate, n_fft=each.n_fft, hop=each.hop, num_bins=each.num_bins, scale=config.scale)
            for each in config.resolutions
        )

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Two batches of sounds (B, C, T) -> scalar: sum_r w_r (mean |d| + l2_weight * mean over frames of (mean over bins of d^2)^(1/2)), where d
        is the difference of the logarithms."""
        total = []
        for resolution, spectrogram in zip(self.config.resolutions, self.spectrograms, strict=True):
            difference = self._log(spectrogram(prediction)) - self._log(spectrogram(target))
            distance = difference.abs().mean()
            if self.config.l2_weight:
                distance = distance + self.config.l2_weight * difference.square().mean(dim=-1).clamp_min(1e-12).sqrt().mean()
            total.append(resolution.weight * distance)
        return torch.stack(total).sum()

    def _log(self, magnitudes: Tensor) -> Tensor:
        clamped = magnitudes.clamp_min(self.config.floor)
        return clamped.log10() if self.config.log == "log10" else clamped.log()
