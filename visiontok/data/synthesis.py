"""Sounds by formula: vowels and syllables, tones, chords and noises, each exactly as its description says.

Voices are sums of harmonics, s(t) = sum_h a_h(t) sin(2 pi h phi(t)) with phi the integral of the fundamental frequency f0, of those below half the
sample rate. The source falls by 1 / h (the glottis by 12 dB per octave, less 6 dB that the lips radiate), and the vocal tract is a cascade of
resonators (Fant 1960; Klatt 1980): a_h = 1 / h prod_k ((1 - (f / F_k)^2)^2 + (f B_k / F_k^2)^2)^(-1/2) at f = h f0, with formants F_k of the
bandwidths B_k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import TypeAlias

import numpy as np

VOWELS = {
    "iy": (270, 2290, 3010),
    "ih": (390, 1990, 2550),
    "eh": (530, 1840, 2480),
    "ae": (660, 1720, 2410),
    "aa": (730, 1090, 2440),
    "ao": (570, 840, 2410),
    "uh": (440, 1020, 2240),
    "uw": (300, 870, 2240),
    "ah": (640, 1190, 2390),
    "er": (490, 1350, 1690),
}
"""The first three formants in Hz of American English vowels, means over men (Peterson and Barney 1952, table II), by their ARPAbet names."""

STOPS = {"b": (200, 720), "d": (200, 1800), "g": (200, 3000)}
"""The loci in Hz from which the first two formants start (Delattre, Liberman and Cooper 1955)."""

FRICATIVES = {"s": (5500, 1500), "sh": (3000, 800)}
"""Center and deviation in Hz of a band of noise."""

CONSONANTS = (*STOPS, "m", *FRICATIVES)

NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
"""From C4 at 261.63 Hz, of equal temperament with A4 at 440 Hz."""

CHORDS = {"major": (0, 4, 7), "minor": (0, 3, 7), "diminished": (0, 3, 6), "augmented": (0, 4, 8)}
"""Semitones above the root."""

NOISES = {"white": 0, "pink": 1, "brown": 2}
"""How the power falls with the frequency: f^-exponent."""

_FOURTH_FORMANT = 3500
_BANDWIDTHS = (60, 90, 150, 200)
_NASAL = (250, 1000, 2200)  # of the murmur before "m" opens
_MURMUR, _FRICTION, _BURST, _TRANSITION, _FADE = 0.08, 0.12, 0.01, 0.02, 0.01  # seconds
_FRAME = 0.002  # seconds between two values of the amplitudes of harmonics


@dataclass(frozen=True)
class Vowel:
    """A sustained vowel: a name of `VOWELS`, fundamental frequencies in Hz at the start and the end, and what its formants are multiplied with."""

    name: str
    start: float
    end: float
    tract: float


@dataclass(frozen=True)
class Syllable:
    """A name of `CONSONANTS`, and the vowel that follows."""

    consonant: str
    vowel: Vowel


@dataclass(frozen=True)
class Tone:
    """A name of `NOTES`; harmonics fall by h^-slope; the sound rises for `attack` seconds and then falls by 1 / e in `decay` seconds."""

    note: str
    slope: float
    attack: float
    decay: float


@dataclass(frozen=True)
class Chord:
    """Three such tones at once: a name of `CHORDS`, the root in semitones above C4, and the rest as in `Tone`."""

    quality: str
    root: int
    slope: float
    attack: float
    decay: float


@dataclass(frozen=True)
class Noise:
    """A name of `NOISES`."""

    color: str


Content: TypeAlias = Vowel | Syllable | Tone | Chord | Noise
"""What a sound consists of."""


def synthesize(content: Content, samples: int, *, sample_rate: int, peak: float, rng: np.random.Generator) -> np.ndarray:
    """(samples,) float32, faded in and out over 10 ms.

    Args:
        content: exactly this.
        samples: length, two at least.
        sample_rate: in Hz.
        peak: the largest absolute value.
        rng: of noises.
    """
    time = np.arange(samples) / sample_rate
    sound = _rendered(content, time, sample_rate, rng)
    fade = np.clip(np.minimum(time, time[-1] - time) / _FADE, 0, 1)
    sound = sound * np.sin(fade * np.pi / 2) ** 2
    return (sound * (peak / np.abs(sound).max())).astype(np.float32)


def note_frequency(semitones: float) -> float:
    """Hz of a note so many semitones above C4."""
    return 440.0 * 2 ** ((semitones - 9) / 12)


@singledispatch
def _rendered(content: Content, time: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """(T,) float64 of any peak at `time` (T,) in seconds."""
    raise TypeError(f"{type(content).__name__} is no sound")


@_rendered.register
def _(content: Vowel, time: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    formants = [np.full_like(time, frequency) for frequency in VOWELS[content.name]]
    return _voice(content, time, formants, sample_rate)


@_rendered.register
def _(content: Syllable, time: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    name, noise = content.consonant, rng.standard_normal(len(time))
    before = {"m": _MURMUR, **dict.fromkeys(FRICATIVES, _FRICTION)}.get(name, _BURST)
    since = time - before  # the vowel begins
    first, second, third = VOWELS[content.vowel.name]
    locus = STOPS.get(name, STOPS["b" if name == "m" else "d"])
    moved = np.exp(-np.maximum(since, 0) / _TRANSITION)
    formants = [first + (locus[0] - first) * moved, second + (locus[1] - second) * moved, np.full_like(time, third)]
    opening = np.clip(since / _TRANSITION, 0, 1)
    if name == "m":
        formants = [np.where(since < 0, murmur, formant) for murmur, formant in zip(_NASAL, formants, strict=True)]
        return _voice(content.vowel, time, formants, sample_rate) * (0.3 + 0.7 * opening)
    voice = _voice(content.vowel, time, formants, sample_rate) * opening
    center, deviation = FRICATIVES.get(name, (locus[1] * content.vowel.tract, 500))
    friction = _shaped(noise, sample_rate, lambda frequency: np.exp(-(((frequency - center) / deviation) ** 2) / 2))
    loudness = 0.5 * np.abs(voice).max(initial=1e-9) / np.abs(friction).max()
    return voice + loudness * friction * np.clip((before - time) / _BURST, 0, 1)


@_rendered.register
def _(content: Tone, time: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    return _plucked(NOTES.index(content.note), content, time, sample_rate)


@_rendered.register
def _(content: Chord, time: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    tones = [_plucked(content.root + semitones, content, time, sample_rate) for semitones in CHORDS[content.quality]]
    return np.sum(tones, axis=0)


@_rendered.register
def _(content: Noise, time: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    exponent = NOISES[content.color]
    return _shaped(rng.standard_normal(len(time)), sample_rate, lambda frequency: np.maximum(frequency, 20.0) ** (-exponent / 2))


def _voice(vowel: Vowel, time: np.ndarray, formants: list[np.ndarray], sample_rate: int) -> np.ndarray:
    """(T,) with formants (T,) that may move."""
    pitch = vowel.start * (vowel.end / vowel.start) ** (time / time[-1])
    step = max(1, round(_FRAME * sample_rate))
    resonances = [*(vowel.tract * formant[::step] for formant in formants), np.full_like(time[::step], _FOURTH_FORMANT * vowel.tract)]

    def amplitude(number: int) -> np.ndarray:
        frequency = number * pitch[::step]
        gain = np.full_like(frequency, 1 / number)
        for resonance, bandwidth in zip(resonances, _BANDWIDTHS, strict=True):
            ratio = frequency / resonance
            gain = gain / np.sqrt((1 - ratio**2) ** 2 + (ratio * bandwidth / resonance) ** 2)
        return np.interp(time, time[::step], gain)

    return _harmonics(pitch, amplitude, sample_rate)


def _plucked(semitones: float, timbre: Tone | Chord, time: np.ndarray, sample_rate: int) -> np.ndarray:
    """(T,) a tone with its envelope."""
    pitch = np.full_like(time, note_frequency(semitones))
    envelope = np.minimum(time / timbre.attack, np.exp(-np.maximum(time - timbre.attack, 0) / timbre.decay))
    return envelope * _harmonics(pitch, lambda number: np.full_like(time, float(number) ** -timbre.slope), sample_rate)


def _harmonics(pitch: np.ndarray, amplitude: Callable[[int], np.ndarray], sample_rate: int) -> np.ndarray:
    """(T,) the sum of all harmonics that stay below half the rate, of a pitch (T,) in Hz and amplitudes (T,) by their number."""
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    total = np.zeros_like(phase)
    for number in range(1, int(sample_rate / 2 / pitch.max()) + 1):
        total += amplitude(number) * np.sin(number * phase)
    return total


def _shaped(noise: np.ndarray, sample_rate: int, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(T,) noise whose spectrum is multiplied by a gain for frequencies in Hz."""
    frequencies = np.fft.rfftfreq(len(noise), 1 / sample_rate)
    shaped: np.ndarray = np.fft.irfft(np.fft.rfft(noise) * gain(frequencies), n=len(noise))
    return shaped
