"""The pitch of sound by YIN (de Cheveigné and Kawahara, 2002), in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from visiontok.base.errors import SignalError

LOWEST, HIGHEST = 60.0, 500.0
"""Pitches that are looked for, in Hz: those of speech."""

HOP, WINDOW = 0.010, 0.025
"""Seconds from one frame to the next, and of the window over which a frame is compared with itself, as published."""

THRESHOLD = 0.1
"""Of the normalized difference function, below which a frame is voiced."""


def pitch(sound: Tensor, *, rate: float) -> Tensor:
    """Pitch of every frame by YIN, of the mean of the channels.

    The first dip of the cumulative mean normalized difference function below 0.1, refined by a parabola; between 60 and 500 Hz. Windows of 25 ms
    every 10 ms lie wholly in the sound.

    Args:
        sound: (B, C, T).
        rate: in Hz.

    Returns:
        (B, frames) float64 in Hz, 0 where a frame is unvoiced; no frames of a sound that is shorter than 42 ms.

    Raises:
        SignalError: for other shapes, or a rate below 2 kHz.
    """
    if sound.ndim != 3 or rate < 4 * HIGHEST:
        raise SignalError(f"sounds (B, C, T) of at least {4 * HIGHEST:g} Hz are required, got {tuple(sound.shape)} at {rate:g} Hz")
    mono = sound.double().mean(dim=1)
    window, hop, longest, shortest = (round(seconds * rate) for seconds in (WINDOW, HOP, 1 / LOWEST, 1 / HIGHEST))
    needed = window + longest + 1
    if mono.shape[1] < needed:
        return mono.new_zeros(len(mono), 0)
    frames = mono.unfold(1, needed, hop)
    dips = _normalized_difference(frames, window=window, longest=longest + 1)
    middle, left, right = dips[..., 1:-1], dips[..., :-2], dips[..., 2:]
    lags = torch.arange(1, dips.shape[-1] - 1, dtype=torch.int64, device=mono.device)
    found = (middle <= left) & (middle < right) & (middle < THRESHOLD) & (lags >= shortest)
    first = found.to(torch.uint8).argmax(dim=-1, keepdim=True)
    before, at, after = (side.gather(-1, first) for side in (left, middle, right))
    curvature = before - 2 * at + after
    shift = torch.where(curvature > 0, (before - after) / (2 * curvature), 0.0)
    return torch.where(found.any(dim=-1), rate / (first + 1 + shift)[..., 0], 0.0)


def _normalized_difference(frames: Tensor, *, window: int, longest: int) -> Tensor:
    """Cumulative mean normalized difference of every lag from 0 to `longest`, equations 6 and 8.

    Args:
        frames: (B, frames, window + longest).
        window: samples over which differences are summed.
        longest: lag.
    """
    size = 1 << (frames.shape[-1] + window).bit_length()
    spectrum = torch.fft.rfft(frames, size)
    head = torch.fft.rfft(frames[..., :window], size)
    products = torch.fft.irfft(spectrum * head.conj(), size)[..., : longest + 1]
    sums = pad(frames.square().cumsum(dim=-1), (1, 0))
    energies = sums[..., window : window + longest + 1] - sums[..., : longest + 1]
    difference = (energies[..., :1] + energies - 2 * products).clamp_min(0)
    difference[..., 0] = 0
    lags = torch.arange(1, longest + 1, dtype=frames.dtype, device=frames.device)
    means = difference[..., 1:].cumsum(dim=-1) / lags
    floor = 1e-12 * energies[..., :1]  # rounding errors of a frame that repeats exactly, and silence, have no period
    return torch.cat([torch.ones_like(energies[..., :1]), torch.where(means > floor, difference[..., 1:] / means, 1.0)], dim=-1)
