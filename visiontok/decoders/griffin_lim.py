"""Sound from magnitudes alone, by alternating projections (Griffin and Lim 1984), accelerated (Perraudin et al. 2013). Has no weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from visiontok.decoders.vocos import inverse_stft
from visiontok.layers.mel import framed

MOMENTUM = 0.99


def griffin_lim(magnitudes: Tensor, window: Tensor, *, hop: int, iterations: int) -> Tensor:
    """Magnitudes of the spectra of overlapping windows -> a sound whose spectra have about these. Draws nothing: at first, every frequency of a
    window's spectrum turns at its own rate from frame to frame.

    Args:
        magnitudes: (B, frames, n_fft / 2 + 1).
        window: (n_fft,).
        hop: samples between windows; every frame has its hop in its middle.
        iterations: projections.

    Returns:
        (B, 1, frames * hop).
    """
    frames, bins = magnitudes.shape[1:]
    turns = torch.arange(frames, dtype=torch.float64)[:, None] * torch.arange(bins, dtype=torch.float64) * (hop / len(window))
    phases = (2 * math.pi * (turns % 1)).to(magnitudes)
    spectrum = torch.polar(magnitudes, phases.expand_as(magnitudes))
    before = torch.zeros_like(spectrum)
    for _ in range(iterations):
        found = torch.fft.rfft(framed(inverse_stft(spectrum, window, hop)[:, 0], len(window), hop) * window)
        ahead = found + MOMENTUM * (found - before)
        before = found
        spectrum = magnitudes * ahead / ahead.abs().clamp_min(1e-16)
    return inverse_stft(spectrum, window, hop)
