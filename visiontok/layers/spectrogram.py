"""Magnitude spectrograms and their mel bands, as losses and distances of sound compare them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LINEAR, _KNEE, _STEP = 200 / 3, 1000.0, math.log(6.4) / 27  # of Slaney's mel scale: Hz per mel, where it becomes logarithmic, log Hz per mel


def magnitudes(signal: Tensor, *, window: int, hop: int, fft_size: int | None = None) -> Tensor:
    """(..., T) -> (..., fft_size / 2 + 1, 1 + T // hop), T above fft_size / 2.

    A periodic Hann window, frames centered every `hop` samples, the signal reflected at both ends.

    Args:
        signal: real.
        window: its samples.
        hop: from one frame to the next.
        fft_size: `window` unless it is longer, which pads every frame with zeros.
    """
    hann = torch.hann_window(window, dtype=signal.dtype, device=signal.device)
    rows = signal.reshape(-1, signal.shape[-1])
    spectrum = torch.stft(rows, fft_size or window, hop, window, hann, center=True, pad_mode="reflect", return_complex=True)
    return spectrum.abs().reshape(*signal.shape[:-1], *spectrum.shape[1:])


def mel_filters(*, sample_rate: float, fft_size: int, bands: int, low: float = 0.0, high: float | None = None) -> Tensor:
    """(bands, fft_size / 2 + 1) float64: triangles evenly spaced on Slaney's mel scale, each of area 1 over its frequencies in Hz.

    The scale is linear to 1 kHz and logarithmic above, as in Slaney's Auditory Toolbox (1998).

    Args:
        sample_rate: in Hz.
        fft_size: of the spectrum.
        bands: number of triangles.
        low, high: their range in Hz; high is half the rate by default.
    """
    top = sample_rate / 2 if high is None else high
    edges = _frequency(torch.linspace(_mel(low), _mel(top), bands + 2, dtype=torch.float64))
    bins = torch.linspace(0, sample_rate / 2, fft_size // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp_min(0) * (2 / (edges[2:] - edges[:-2]))[:, None]


def _mel(frequency: float) -> float:
    return frequency / _LINEAR if frequency < _KNEE else _KNEE / _LINEAR + math.log(frequency / _KNEE) / _STEP


def _frequency(mel: Tensor) -> Tensor:
    knee = _KNEE / _LINEAR
    return torch.where(mel < knee, mel * _LINEAR, _KNEE * torch.exp(_STEP * (mel - knee)))
