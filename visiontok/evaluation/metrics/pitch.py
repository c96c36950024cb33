"""The pitch of sound by YIN (de Cheveigné and Kawahara, 2002), and how well a reconstruction keeps it. All is computed in float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.fidelity import as_pair

LOWEST, HIGHEST = 60.0, 500.0
"""Pitches that are looked for, in Hz: those of speech."""

HOP, WINDOW = 0.010, 0.025
"""Seconds from one frame to the next, and of the window over which a frame is compared with itself, as published."""

THRESHOLD = 0.1
"""Of the normalized difference function, below which a frame is voiced."""

STEADY = 1e-3
"""Standard deviation of a pitch over its mean, below which it has no course that could be followed."""


class PitchAgreement(NamedTuple):
    """How well pitches agree, (B,) float64 each.

    Attributes:
        correlation: Pearson's, of the pitch in Hz over the frames that are voiced in both; NaN where there are fewer than three or a pitch is
            steady.
        voicing: share of the frames that are voiced in both or in neither; NaN where no frame of the reference is voiced.
    """

    correlation: Tensor
    voicing: Tensor


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
        EvaluationError: for other shapes, or a rate below 2 kHz.
    """
    if sound.ndim != 3 or rate < 4 * HIGHEST:
        raise EvaluationError(f"sounds (B, C, T) of at least {4 * HIGHEST:g} Hz are required, got {tuple(sound.shape)} at {rate:g} Hz")
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


def pitch_agreement(reference: Tensor, reconstruction: Tensor, *, rate: float) -> PitchAgreement:
    """How well the pitch of the reconstruction follows that of the reference.

    Args:
        reference, reconstruction: (B, C, T) speech, or another sound of one pitch at a time.
        rate: in Hz.

    Raises:
        EvaluationError: if the shapes differ; see also `pitch`.
        NonFiniteError: if one holds NaN or infinity.
    """
    original, other = (pitch(side, rate=rate) for side in as_pair(reference, reconstruction))
    if not original.shape[1]:
        nothing = original.new_full((len(original),), torch.nan)
        return PitchAgreement(nothing, nothing)
    both = (original > 0) & (other > 0)
    has_voice = (original > 0).any(dim=1)
    voicing = torch.where(has_voice, ((original > 0) == (other > 0)).double().mean(dim=1), torch.nan)
    return PitchAgreement(torch.stack([_correlation(a[kept], b[kept]) for a, b, kept in zip(original, other, both, strict=True)]), voicing)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's, of (n,); NaN where one of both is steady."""
    if len(first) < 3 or any(float(side.std() / side.mean()) < STEADY for side in (first, second)):
        return first.new_tensor(torch.nan)
    centered = [side - side.mean() for side in (first, second)]
    return (centered[0] @ centered[1]) / (centered[0].norm() * centered[1].norm())


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
