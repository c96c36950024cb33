"""Logarithmic mel energies as Kaldi computes them, and as speech models that were trained on them read them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

FLOOR = 1.1920928955078125e-07
"""The least energy: the spacing of float32 at 1."""

_PREEMPHASIS, _POVEY_POWER, _LOWEST = 0.97, 0.85, 20.0


def kaldi_fbank(signal: Tensor, *, sample_rate: int, num_bins: int = 80, window: int = 400, hop: int = 160) -> Tensor:
    """(B, T) in [-1, 1] -> (B, frames, num_bins), frames = 1 + (T - window) // hop, without dither.

    Of every window of the signal in units of 16-bit samples the mean is removed, then 0.97 times the sample before (the first sample's own),
    and the rest is weighted by Kaldi's povey window; the power spectrum of the next power of two is summed by triangles even on the mel scale
    1127 ln(1 + f / 700) between 20 Hz and half the rate. At 16 kHz and 80 bins these are the features of w2v-BERT 2.0.
    """
    size = 2 ** math.ceil(math.log2(window))
    frames = (signal * 2**15).unfold(-1, window, hop)
    frames = frames - frames.mean(dim=-1, keepdim=True)
    frames = frames - _PREEMPHASIS * torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
    povey = torch.hann_window(window, periodic=False, dtype=signal.dtype, device=signal.device) ** _POVEY_POWER
    power = torch.fft.rfft(pad(frames * povey, (0, size - window))).abs().square()
    filters = kaldi_triangles(sample_rate=sample_rate, num_bins=num_bins, size=size, lowest=_LOWEST, highest=sample_rate / 2).to(power)
    return (power[..., :-1] @ filters).clamp_min(FLOOR).log()


def kaldi_triangles(*, sample_rate: int, num_bins: int, size: int, lowest: float, highest: float) -> Tensor:
    """(size / 2, num_bins) float64: what a frequency below half the rate counts in every bin; triangles are straight on the mel scale, with peak 1.

    Args:
        sample_rate: in Hz.
        num_bins: triangles, evenly between `lowest` and `highest` on the mel scale.
        size: samples of the spectrum.
        lowest, highest: in Hz.
    """
    low, high = _mel(torch.tensor([lowest, highest], dtype=torch.float64))
    edges = torch.linspace(0, 1, num_bins + 2, dtype=torch.float64) * (high - low) + low
    mels = _mel(torch.arange(size // 2, dtype=torch.float64) * sample_rate / size)[:, None]
    rising, falling = (mels - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - mels) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp_min(0)


def _mel(frequency: Tensor) -> Tensor:
    return 1127 * (1 + frequency / 700).log()
