"""Sound from magnitudes alone, by alternating projections (Griffin and Lim 1984), accelerated (Perraudin et al. 2013). Has no weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from visiontok.decoders.vocos import inverse_stft
from visiontok.layers.mel import framed

MOMENTUM = 0.99

_FRAMES = 4096  # that are transformed at once


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
    sound = inverse_stft(_turned(magnitudes, step=hop / len(window)), window, hop)
    before = [magnitudes.new_zeros(()) for _ in magnitudes.split(_FRAMES, dim=1)]
    for _ in range(iterations):
        sound = inverse_stft(_projected(sound, magnitudes, before, window=window, hop=hop), window, hop)
    return sound


def _turned(magnitudes: Tensor, *, step: float) -> Tensor:
    """Spectra whose every frequency of a Fourier transform advances by its own phase from frame to frame, by so many of its periods per bin."""
    frames, bins = magnitudes.shape[1:]
    turns = torch.arange(frames, dtype=torch.float64)[:, None] * torch.arange(bins, dtype=torch.float64) * step
    phases = (2 * math.pi * (turns % 1)).to(magnitudes)
    return torch.polar(magnitudes, phases.expand_as(magnitudes))


def _projected(sound: Tensor, magnitudes: Tensor, before: list[Tensor], *, window: Tensor, hop: int) -> Tensor:
    """Spectra (B, frames, n_fft / 2 + 1) of these magnitudes, with the phases of the sound ahead of its spectra before, which are replaced."""
    spectra = magnitudes.new_empty(magnitudes.shape, dtype=magnitudes.dtype.to_complex())
    for number, frames in enumerate(framed(sound[:, 0], len(window), hop).split(_FRAMES, dim=1)):
        found = torch.fft.rfft(frames * window)
        ahead = found + MOMENTUM * (found - before[number])
        before[number] = found
        part = slice(number * _FRAMES, (number + 1) * _FRAMES)
        spectra[:, part] = magnitudes[:, part] * ahead / ahead.abs().clamp_min(1e-16)
    return spectra
