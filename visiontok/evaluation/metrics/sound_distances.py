"""Distances of sounds in the time-frequency domain, and the scale-invariant signal-to-distortion ratio. All are computed in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.base.finite import check_finite
from visiontok.evaluation.metrics.fidelity import as_pair, check_pair
from visiontok.layers.mel import mel_filters
from visiontok.layers.spectrogram import magnitudes

Resolution: TypeAlias = tuple[int, int, int]
"""Samples of the Fourier transform, of the hop and of the window."""

RESOLUTIONS: tuple[Resolution, ...] = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
MEL_SCALES = ((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320))
"""Samples of the window, and mel bands."""

SHORTEST = 1025
"""Samples of a sound that the longest windows can be reflected in."""

_BLOCK = 2**20
"""Samples of a sound, of all channels together, that are float64 at once where long sounds are summed up."""

MAGNITUDE_FLOOR, MEL_FLOOR = 1e-4, 1e-5


def si_sdr(reference: Tensor, reconstruction: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., arXiv 1811.02508, equation 5); higher is better.

    All channels have one scale. No mean is removed, which SI-SNR does.

    Args:
        reference, reconstruction: (B, C, T) or (B, T).

    Returns:
        (B,) float64; infinite where only the scale differs, NaN where one of both is silent.

    Raises:
        EvaluationError: if the shapes differ.
        NonFiniteError: if one holds NaN or infinity.
    """
    check_pair(reference, reconstruction)
    check_finite(reference, stage="the reference of a metric")
    check_finite(reconstruction, stage="the reconstruction of a metric")
    blocks = [side.flatten(1).split(_BLOCK, dim=1) for side in (reference, reconstruction)]
    peaks = [torch.stack([block.double().abs().amax(dim=1) for block in side]).amax(dim=0)[:, None] for side in blocks]

    def summed(terms: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """(2, B, 1): two functions of target and estimate, summed over time. Both sides are scaled to their peaks, so that no square underflows."""
        pairs = ((target.double() / peaks[0], estimate.double() / peaks[1]) for target, estimate in zip(*blocks, strict=True))
        return torch.stack([torch.stack(terms(*pair)).sum(dim=2, keepdim=True) for pair in pairs]).sum(dim=0)

    products, energy = summed(lambda target, estimate: (target * estimate, target.square()))
    scale = products / energy
    projected, left = summed(lambda target, estimate: ((scale * target).square(), (estimate - scale * target).square()))
    return 10 * torch.log10(projected / left)[:, 0]


def stft_distance(reference: Tensor, reconstruction: Tensor, *, resolutions: Sequence[Resolution] = RESOLUTIONS) -> Tensor:
    """Multi-resolution STFT distance (Yamamoto et al., arXiv 1910.11480, equations 4 to 6); 0 for identical sounds, lower is better.

    Mean over the resolutions of the spectral convergence, |S - S'| / |S| in Frobenius norms, plus the mean absolute difference of the natural
    logarithms of the magnitudes, which are at least 1e-4; mean over channels.

    Args:
        reference, reconstruction: (B, C, T), T at least 1025 with the usual resolutions.
        resolutions: Fourier transform, hop and window in samples, whatever the rate.

    Returns:
        (B,) float64; NaN where a channel of the reference is silent.

    Raises:
        EvaluationError: if the shapes differ, or the sounds are too short.
        NonFiniteError: if one holds NaN or infinity.
    """
    first, second = _sounds(reference, reconstruction, longest=max(size for size, _, _ in resolutions))
    total = torch.zeros(first.shape[:2], dtype=torch.float64, device=first.device)
    for size, hop, window in resolutions:
        original, other = (magnitudes(side, window=window, hop=hop, fft_size=size).clamp_min(MAGNITUDE_FLOOR) for side in (first, second))
        convergence = (original - other).flatten(2).norm(dim=2) / original.flatten(2).norm(dim=2)
        total += convergence + (original.log() - other.log()).abs().mean(dim=(2, 3))
    silent = first.abs().amax(dim=2) == 0
    return torch.where(silent, torch.nan, total / len(resolutions)).mean(dim=1)


def mel_distance(reference: Tensor, reconstruction: Tensor, *, rate: float, scales: Sequence[tuple[int, int]] = MEL_SCALES) -> Tensor:
    """Multi-scale mel distance; 0 for identical sounds, lower is better.

    Sum over the scales of the mean absolute difference of log10 mel magnitudes, which are at least 1e-5: the reconstruction loss of DAC (Kumar et
    al., arXiv 2306.06546), with windows of 32 to 2048 samples, hops of a quarter of them, and 5 to 320 bands of Slaney's scale to half the rate.

    Args:
        reference, reconstruction: (B, C, T), T at least 1025 with the usual scales.
        rate: in Hz.
        scales: samples of the window, and bands.

    Returns:
        (B,) float64.

    Raises:
        EvaluationError: if the shapes differ, or the sounds are too short.
        NonFiniteError: if one holds NaN or infinity.
    """
    first, second = _sounds(reference, reconstruction, longest=max(window for window, _ in scales))
    total = torch.zeros(len(first), dtype=torch.float64, device=first.device)
    for window, bands in scales:
        filters = mel_filters(sample_rate=rate, n_fft=window, num_bins=bands, scale="slaney").T.to(first.device)
        original, other = ((filters @ magnitudes(side, window=window, hop=window // 4)).clamp_min(MEL_FLOOR).log10() for side in (first, second))
        total += (original - other).abs().mean(dim=(1, 2, 3))
    return total


def _sounds(reference: Tensor, reconstruction: Tensor, *, longest: int) -> tuple[Tensor, Tensor]:
    """Both as (B, C, T) float64, long enough for a transform of `longest` samples."""
    first, second = as_pair(reference, reconstruction)
    if first.ndim != 3 or first.shape[-1] <= longest // 2:
        raise EvaluationError(f"sounds (B, C, T) of more than {longest // 2} samples are required, got {tuple(first.shape)}")
    return first, second
