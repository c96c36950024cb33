"""Procedural sounds with exact labels: every sound follows from (name, seed, split, index) alone. The formulas are in `synthesis`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.base.modality import Modality
from visiontok.data.procedural import ProceduralSource
from visiontok.data.source import Sample
from visiontok.data.synthesis import CHORDS, CONSONANTS, NOISES, NOTES, VOWELS, Chord, Content, Noise, Syllable, Tone, Vowel, synthesize
from visiontok.signals.audio_reading import Sound

Kind: TypeAlias = Literal["vowels", "syllables", "tones", "chords", "noises"]

SYLLABLE_VOWELS = ("iy", "aa", "uw")

CLASSES: dict[Kind, tuple[str, ...]] = {
    "vowels": tuple(f"vowel {name}" for name in VOWELS),
    "syllables": tuple(f"syllable {consonant}-{vowel}" for consonant in CONSONANTS for vowel in SYLLABLE_VOWELS),
    "tones": tuple(f"tone {name}" for name in NOTES),
    "chords": tuple(f"chord {name}" for name in CHORDS),
    "noises": tuple(f"noise {name}" for name in NOISES),
}
"""Names of the classes of every kind."""

SOUNDS = ("sounds", *CLASSES)
"""Names of the sets: all kinds together, and each by itself."""


class SoundsConfig(Config):
    """The procedural sounds.

    Attributes:
        name: of the one kind that there is, or "sounds" for all of them, whose classes then stand in this order.
        split: "train" and "test" share no sound.
        sample_rate: in Hz.
        seconds: length of a sound, or of the longest.
        min_seconds: of the shortest; lengths are drawn evenly in between. None for one length.
        num_samples: sounds in the set.
        seed: of everything.
    """

    name: Literal["sounds", "vowels", "syllables", "tones", "chords", "noises"] = "sounds"
    split: Literal["train", "test"] = "train"
    sample_rate: Annotated[int, Field(ge=4000, le=192_000)] = 16000
    seconds: Annotated[float, Field(ge=0.1, le=3600)] = 1.0
    min_seconds: Annotated[float, Field(ge=0.1)] | None = None
    num_samples: Positive = 2000
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_seconds is not None and self.min_seconds > self.seconds:
            raise ValueError(f"min_seconds {self.min_seconds} exceeds seconds {self.seconds}")
        return self

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What there is."""
        return tuple(CLASSES) if self.name == "sounds" else (self.name,)


class SoundsSource(ProceduralSource):
    """Mono sounds, with kinds and classes in turn evenly drawn: the kind first, then its class."""

    modality: Modality = "audio"
    class_names: tuple[str, ...]
    config: SoundsConfig

    def __init__(self, config: SoundsConfig) -> None:
        self.config = config
        self.class_names = tuple(name for kind in config.kinds for name in CLASSES[kind])

    def content(self, index: int) -> Content:
        """What a sound consists of, exactly as it is synthesized."""
        return self._drawn(self.rng(index))[1]

    def read(self, index: int) -> Sample:
        rng, config = self.rng(index), self.config
        name, content = self._drawn(rng)
        longest = round(config.seconds * config.sample_rate)
        shortest = longest if config.min_seconds is None else round(config.min_seconds * config.sample_rate)
        samples = int(rng.integers(shortest, longest + 1))
        peak = 10 ** (rng.uniform(-12, -1) / 20)
        sound = synthesize(content, samples, sample_rate=config.sample_rate, peak=peak, rng=rng)
        return Sample(self.key(index), Sound(sound[None], config.sample_rate), label=self.class_names.index(name))

    def _drawn(self, rng: np.random.Generator) -> tuple[str, Content]:
        """The name of the class, and the sound."""
        kind = self.config.kinds[rng.integers(len(self.config.kinds))]
        name = CLASSES[kind][rng.integers(len(CLASSES[kind]))]
        return name, _DRAWS[kind](rng, name.partition(" ")[2])


def _vowel(rng: np.random.Generator, name: str) -> Vowel:
    """A voice of 90 to 250 Hz that glides by three semitones at most; high voices have short tracts."""
    start = 90 * (250 / 90) ** rng.uniform()
    tract = 1 + 0.2 * np.log(start / 90) / np.log(250 / 90) + rng.uniform(-0.03, 0.03)
    return Vowel(name, float(start), float(start * 2 ** rng.uniform(-0.25, 0.25)), float(tract))


def _syllable(rng: np.random.Generator, name: str) -> Syllable:
    consonant, vowel = name.split("-")
    return Syllable(consonant, _vowel(rng, vowel))


def _timbre(rng: np.random.Generator) -> tuple[float, float, float]:
    """Slope, attack and decay."""
    return float(rng.uniform(1, 3)), float(rng.uniform(0.005, 0.05)), float(rng.uniform(0.3, 1.5))


_DRAWS: dict[Kind, Callable[[np.random.Generator, str], Content]] = {
    "vowels": _vowel,
    "syllables": _syllable,
    "tones": lambda rng, name: Tone(name, *_timbre(rng)),
    "chords": lambda rng, name: Chord(name, int(rng.integers(-12, 12)), *_timbre(rng)),
    "noises": lambda rng, name: Noise(name),
}
