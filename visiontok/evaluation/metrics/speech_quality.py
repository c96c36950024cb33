"""Intelligibility and quality of speech by the implementations in common use: STOI and ESTOI (pystoi), PESQ (pesq), ViSQOL (visqol-python)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.base.optional import import_optional
from visiontok.evaluation.metrics.fidelity import as_pair
from visiontok.signals.audio_conversion import resampled

PesqBand: TypeAlias = Literal["wb", "nb"]

PESQ_RATES: dict[PesqBand, int] = {"wb": 16000, "nb": 8000}
"""In Hz: of ITU-T P.862.2 (wideband) and P.862 with the mapping of P.862.1 (narrowband)."""

VISQOL_RATE = 48000

FEWEST_SECONDS_STOI, FEWEST_SECONDS_PESQ, FEWEST_SECONDS_VISQOL = 0.4, 0.25, 1.0

_TOO_SHORT_STOI = 1e-5
"""What pystoi gives where fewer than 30 frames are left without the silent ones."""

Scorer: TypeAlias = Callable[[np.ndarray, np.ndarray], float]
"""Two channels (T,) float64, of which the first is not silent -> a number; NaN where there is none."""


def stoi(reference: Tensor, reconstruction: Tensor, *, rate: int) -> Tensor:
    """Short-time objective intelligibility (Taal et al., 2011), as pystoi computes it, which resamples to 10 kHz; mean over channels.

    Args:
        reference, reconstruction: (B, C, T) speech.
        rate: in Hz.

    Returns:
        (B,) float64, at most 1, for identical speech; 0 for a silent reconstruction; NaN where the original is silent or has less than 0.4 s of
        speech.

    Raises:
        EvaluationError: if the shapes differ.
        NonFiniteError: if one holds NaN or infinity.
        DependencyError: if pystoi is not installed.
    """
    return _stoi(reference, reconstruction, rate, extended=False)


def estoi(reference: Tensor, reconstruction: Tensor, *, rate: int) -> Tensor:
    """Extended STOI (Jensen and Taal, 2016), which also hears modulated maskers; arguments, result and errors as of `stoi`.

    pystoi adds noise of 1e-16 of NumPy's global generator to spectra, which is fixed here, so that equal sounds have equal values.
    """
    return _stoi(reference, reconstruction, rate, extended=True)


def pesq(reference: Tensor, reconstruction: Tensor, *, rate: int, band: PesqBand = "wb") -> Tensor:
    """Perceptual evaluation of speech quality as the package pesq computes it, a mean opinion score; mean over channels.

    Sounds of other rates are resampled by soxr in its very high quality to 16 kHz for wideband, to 8 kHz for narrowband.

    Args:
        reference, reconstruction: (B, C, T) speech.
        rate: in Hz.
        band: "wb" for ITU-T P.862.2, "nb" for P.862 with the mapping of P.862.1.

    Returns:
        (B,) float64, at most 4.644 (wb) or 4.549 (nb), for identical speech; NaN where one is silent, no speech is found, or it is shorter than
        0.25 s.

    Raises:
        EvaluationError: if the shapes differ, there is no such band, or the rate is below its rate.
        NonFiniteError: if one holds NaN or infinity.
        DependencyError: if pesq is not installed.
    """
    if band not in PESQ_RATES:
        raise EvaluationError(f"there is no PESQ of the band {band!r}; choose one of {', '.join(PESQ_RATES)}")
    own = PESQ_RATES[band]
    if rate < own:
        raise EvaluationError(f"PESQ of the band {band!r} is defined from {own} Hz, got sound of {rate} Hz")
    package = import_optional("pesq", extra="audio-quality")

    def score(original: np.ndarray, other: np.ndarray) -> float:
        if len(original) < math.ceil(FEWEST_SECONDS_PESQ * rate) or not other.any():
            return math.nan
        pair = (resampled(side[None], rate, own)[0] for side in (original, other))
        try:
            return float(package.pesq(own, *pair, band))
        except (package.NoUtterancesError, package.BufferTooShortError):
            return math.nan

    return _per_channel(*_sounds(reference, reconstruction), score)


def visqol(reference: Tensor, reconstruction: Tensor, *, rate: int) -> Tensor:
    """ViSQOL in its audio mode (Chinen et al., arXiv 2004.09584), as visqol-python computes it, a mean opinion score; of the mean of the channels.

    Sounds of other rates than 48 kHz are resampled by soxr in its very high quality. Slow: some seconds for every second of sound.

    Args:
        reference, reconstruction: (B, C, T) of any sound.
        rate: in Hz.

    Returns:
        (B,) float64 from 1 to about 4.73, for identical sounds; NaN where one is silent, or it is shorter than 1 s.

    Raises:
        EvaluationError: if the shapes differ.
        NonFiniteError: if one holds NaN or infinity.
        DependencyError: if visqol-python is not installed.
    """
    listener = import_optional("visqol", extra="audio-quality").VisqolApi()
    listener.create(mode="audio")

    def score(original: np.ndarray, other: np.ndarray) -> float:
        if len(original) < FEWEST_SECONDS_VISQOL * rate or not other.any():
            return math.nan
        pair = (resampled(side[None], rate, VISQOL_RATE)[0].astype(np.float64) for side in (original, other))
        return float(listener.measure_from_arrays(*pair, VISQOL_RATE).moslqo)

    original, other = (side.mean(dim=1, keepdim=True) for side in _sounds(reference, reconstruction))
    return _per_channel(original, other, score)


def _stoi(reference: Tensor, reconstruction: Tensor, rate: int, *, extended: bool) -> Tensor:
    package = import_optional("pystoi", extra="metrics")

    def score(original: np.ndarray, other: np.ndarray) -> float:
        if len(original) <= math.ceil(FEWEST_SECONDS_STOI * rate):
            return math.nan
        with _fixed_global_noise():
            found = float(package.stoi(original, other, rate, extended=extended))
        if found == _TOO_SHORT_STOI:
            return math.nan
        return found if other.any() else 0.0

    return _per_channel(*_sounds(reference, reconstruction), score)


def _sounds(reference: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor]:
    """Both as (B, C, T) float64."""
    sides = as_pair(reference, reconstruction)
    if sides[0].ndim != 3:
        raise EvaluationError(f"sounds (B, C, T) are required, got {tuple(sides[0].shape)}")
    return sides


def _per_channel(reference: Tensor, reconstruction: Tensor, score: Scorer) -> Tensor:
    """(B,) means over the channels of (B, C, T), NaN where one has no number."""
    found = [
        np.mean([score(*channels) if channels[0].any() else math.nan for channels in zip(*sides, strict=True)])
        for sides in zip(reference.cpu().numpy(), reconstruction.cpu().numpy(), strict=True)
    ]
    return torch.tensor(found, dtype=torch.float64, device=reference.device)


@contextmanager
def _fixed_global_noise() -> Iterator[None]:
    """NumPy's global generator starts from 0 inside, and goes on as before after it."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
