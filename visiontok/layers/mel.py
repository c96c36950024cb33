"""Mel spectrograms, as vocoders and codecs of sound compute them."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from visiontok.layers.seanet import reflected

MelScale: TypeAlias = Literal["slaney", "htk"]
"""`slaney`: linear below 1 kHz and logarithmic above, filters of unit area (librosa's default); `htk`: 2595 log10(1 + f / 700), filters of peak 1
(torchaudio's default)."""


class MelSpectrogram(nn.Module):
    """Magnitudes of the spectra of overlapping windows, summed by triangles that lie evenly on the mel scale. Computed in float32.

    Args:
        sample_rate: in Hz.
        n_fft: samples of a window (Hann).
        hop: samples between windows.
        num_bins: triangles, between 0 Hz and half the rate.
        scale: of frequencies.
        frames: "whole" for ceil(T / hop) windows, of which each has its hop in its middle; "center" for 1 + T // hop, of which the first is centered
            on the first sample (librosa's and torchaudio's default). Beyond the ends, sound is mirrored.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self, *, sample_rate: int, n_fft: int, hop: int, num_bins: int, scale: MelScale = "slaney", frames: Literal["whole", "center"] = "center"
    ) -> None:
        super().__init__()
        self.n_fft, self.hop, self.frames = n_fft, hop, frames
        self.register_buffer("window", torch.hann_window(n_fft, dtype=torch.float32), persistent=False)
        self.register_buffer("filters", mel_filters(sample_rate=sample_rate, n_fft=n_fft, num_bins=num_bins, scale=scale).float(), persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, frames, num_bins), not negative."""
        with torch.autocast(sound.device.type, enabled=False):
            if self.frames == "whole":
                windows = framed(sound.float(), self.n_fft, self.hop)
            else:
                windows = reflected(sound.float(), self.n_fft // 2, self.n_fft // 2).unfold(-1, self.n_fft, self.hop)
            magnitudes = torch.fft.rfft(windows * self.window.float()).abs()
            result: Tensor = magnitudes @ self.filters.float()
            return result


def framed(sound: Tensor, n_fft: int, hop: int) -> Tensor:
    """(..., T) -> overlapping windows (..., ceil(T / hop), n_fft), each with its hop in its middle; beyond the ends, sound is mirrored."""
    length, left = sound.shape[-1], (n_fft - hop) // 2
    covered = -(-length // hop) * hop
    return reflected(sound, left, n_fft - hop - left + covered - length).unfold(-1, n_fft, hop)


def mel_filters(*, sample_rate: float, n_fft: int, num_bins: int, scale: MelScale) -> Tensor:
    """(n_fft / 2 + 1, num_bins) float64: what a magnitude counts in every bin."""
    top = _slaney(sample_rate / 2) if scale == "slaney" else 2595 * math.log10(1 + sample_rate / 1400)
    mels = torch.linspace(0, top, num_bins + 2, dtype=torch.float64)
    edges = _from_slaney(mels) if scale == "slaney" else 700 * (10 ** (mels / 2595) - 1)
    frequencies = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)[:, None]
    rising, falling = (frequencies - edges[:-2]) / edges.diff()[:-1], (edges[2:] - frequencies) / edges.diff()[1:]
    triangles = torch.minimum(rising, falling).clamp_min(0)
    if scale == "slaney":
        triangles = triangles * 2 / (edges[2:] - edges[:-2])
    return triangles


_BREAK, _PER_MEL, _LOG_STEP = 1000.0, 200 / 3, 6.4 ** (1 / 27)


def _slaney(frequency: float) -> float:
    """Auditory Toolbox (Slaney 1998): 200/3 Hz per mel up to 1 kHz, then 27 mels for a factor of 6.4."""
    if frequency <= _BREAK:
        return frequency / _PER_MEL
    return _BREAK / _PER_MEL + math.log(frequency / _BREAK, _LOG_STEP)


def _from_slaney(mels: Tensor) -> Tensor:
    return torch.where(mels <= _BREAK / _PER_MEL, mels * _PER_MEL, _BREAK * _LOG_STEP ** (mels - _BREAK / _PER_MEL))
