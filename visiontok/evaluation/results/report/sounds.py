"""Sounds for a report: what is drawn and played of them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from visiontok.evaluation.results.report.images import token_image
from visiontok.evaluation.results.report.sections import ImageArray, SoundGrid, SoundRow, Spectrogram, Waveform
from visiontok.signals.audio_writing import encode_audio
from visiontok.tokens import Latents, Tokens

SECONDS = 10.0
"""The most of a sound that is shown."""

MOST_SAMPLES = 2**23
"""The most samples, of all channels of all sounds, that a page plays: about 16 MB."""

DYNAMIC_RANGE = 80.0
"""Decibels below the loudest part of the original at which spectrograms end."""

FULL_DIFFERENCE = 20.0
"""Decibels at which differences have their full color."""

_COLUMNS, _ROWS = 400, 96
"""The most that a panel shows; a page shows it at about this width."""


def sound_grid(
    title: str,
    original: Tensor,
    reconstructions: Mapping[str, Tensor],
    *,
    rate: int,
    tokens: Tokens | Latents | None = None,
    seconds: float = SECONDS,
) -> SoundGrid:
    """A sound above its reconstructions, each with a player, its waveform, its spectrogram, and the difference from the original's.

    Args:
        title: heading.
        original: (C, T) in [-1, 1], at the rate of the reconstructions.
        reconstructions: by label, likewise.
        rate: samples per second.
        tokens: of the sound, a batch of one; drawn below.
        seconds: the most that is shown and played, from the beginning.
    """
    whole = original.shape[-1]
    count = min(whole, max(1, round(seconds * rate)))
    shown = {label: sound[..., :count] for label, sound in {"original": original, **reconstructions}.items()}
    limit = max(max(float(sound.abs().max()) for sound in shown.values()), 1e-3)
    powers = {label: _power(sound, rate) for label, sound in shown.items()}
    reference = float(powers["original"].max()) or max(float(power.max()) for power in powers.values()) or 1.0  # of silence nothing is the loudest
    levels = {label: _decibels(power, reference) for label, power in powers.items()}
    rows = []
    for label, sound in shown.items():
        panels: list[Waveform | Spectrogram] = [_waveform(sound, rate, limit=limit), _spectrogram(levels[label], count, rate)]
        if label != "original":
            panels.append(_difference(levels[label] - levels["original"], count, rate))
        rows.append(SoundRow(label, encode_audio(sound, rate=rate), panels))
    codes = None if tokens is None else codes_image(tokens, share=count / whole)
    return SoundGrid(title, rows, codes, note=_note(count / rate, whole / rate, with_codes=codes is not None))


def sound_gallery(title: str, sounds: Mapping[str, Tensor], *, rate: int) -> SoundGrid:
    """Sounds (C, T) in [-1, 1] by label, each with a player, its waveform and its spectrogram."""
    limit = max(max(float(sound.abs().max()) for sound in sounds.values()), 1e-3)
    rows = []
    for label, sound in sounds.items():
        power = _power(sound, rate)
        levels = _decibels(power, float(power.max()) or 1.0)
        panels: list[Waveform | Spectrogram] = [_waveform(sound, rate, limit=limit), _spectrogram(levels, sound.shape[-1], rate)]
        rows.append(SoundRow(label, encode_audio(sound, rate=rate), panels))
    return SoundGrid(title, rows, note=f"Spectrograms are bright at the loudest part of the sound and dark {DYNAMIC_RANGE:.0f} dB below it.")


def _waveform(sound: Tensor, rate: int, *, limit: float) -> Waveform:
    """The range of the samples of all channels (C, T) in every column."""
    (count,) = sound.shape[1:]
    columns = min(_COLUMNS, count)
    edges = np.linspace(0, count, columns + 1).astype(int)
    samples = sound.detach().float().cpu().numpy()
    low = np.minimum.reduceat(samples.min(axis=0), edges[:-1])
    high = np.maximum.reduceat(samples.max(axis=0), edges[:-1])
    return Waveform(low, high, seconds=count / rate, limit=limit)


def codes_image(tokens: Tokens | Latents, *, share: float = 1.0) -> ImageArray | None:
    """The codes of a sound, a batch of one, as colored squares: one row per level, coarse first, equal codes in equal colors.

    Levels of lower rates have wider squares. None for continuous latents, and where samples do not hold every token.

    Args:
        tokens: of the sound.
        share: of its duration that is drawn, from the beginning.
    """
    if isinstance(tokens, Latents) or not tokens.is_full:
        return None
    (sample,) = (group for _, group in tokens.groups())
    rows = [row for segment in sample.layout.segments for row in sample.view(segment.name)[0].reshape(segment.shape[0], -1).T.cpu().numpy()]
    longest = max(map(len, rows))
    grid = np.stack([row[np.arange(longest) * len(row) // longest] for row in rows])
    return token_image(grid[:, : max(1, round(longest * share))], int(sample.layout.vocab_sizes.max()), cell=1)


def _power(sound: Tensor, rate: int) -> Tensor:
    """(frequencies, columns) power of windows of about 32 ms, the mean over channels."""
    sound = sound.detach().float().cpu()
    size = 2 ** max(4, round(np.log2(0.032 * rate)))
    hop = max(size // 4, -(-sound.shape[-1] // _COLUMNS))
    padded = pad(sound, (size // 2, size // 2))
    window = torch.hann_window(size, dtype=torch.float32)
    spectrum = torch.stft(padded, size, hop, window=window, center=False, return_complex=True)
    power = spectrum.abs().square().mean(dim=0)
    edges = np.unique(np.linspace(0, len(power), min(_ROWS, len(power)) + 1).astype(int))
    return torch.stack([power[low:high].mean(dim=0) for low, high in pairwise(edges.tolist())])


def _decibels(power: Tensor, reference: float) -> Tensor:
    """Relative to the reference, from -DYNAMIC_RANGE up."""
    smallest = 10 ** (-DYNAMIC_RANGE / 10)
    return 10 * torch.log10((power / reference).clamp_min(smallest))


def _spectrogram(levels: Tensor, count: int, rate: int) -> Spectrogram:
    return Spectrogram(levels.numpy(), count / rate, rate / 2000, low=-DYNAMIC_RANGE, high=0.0)


def _difference(levels: Tensor, count: int, rate: int) -> Spectrogram:
    return Spectrogram(levels.numpy(), count / rate, rate / 2000, low=-FULL_DIFFERENCE, high=FULL_DIFFERENCE, is_difference=True)


def _note(shown: float, whole: float, *, with_codes: bool) -> str:
    excerpt = "" if shown >= whole else f"The first {shown:.3g} of {whole:.4g} seconds. "
    codes = " Codes: one row per level, coarse first; equal codes have equal colors." if with_codes else ""
    return (
        f"{excerpt}Spectrograms are bright at the loudest part of the original and dark {DYNAMIC_RANGE:.0f} dB below it. Differences: red where the "
        f"reconstruction is louder than the original, blue where it is softer, without color where they agree, in full color from "
        f"{FULL_DIFFERENCE:.0f} dB.{codes}"
    )
