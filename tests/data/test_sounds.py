"""The built-in sounds are what their labels and descriptions say, by measurements of their own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from visiontok.base.errors import ConfigError
from visiontok.data import LoaderConfig, TrainLoader, open_source
from visiontok.data.sounds import CLASSES, SoundsConfig, SoundsSource
from visiontok.data.synthesis import CHORDS, NOTES, VOWELS, Chord, Noise, Syllable, Tone, Vowel, synthesize
from visiontok.signals import AudioPreprocessing

RATE = 16000


def sound(content: object, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return synthesize(content, round(seconds * rate), sample_rate=rate, peak=0.5, rng=np.random.default_rng(0)).astype(np.float64)  # type: ignore[arg-type]


def level(samples: np.ndarray, frequency: float, rate: int = RATE) -> float:
    """The amplitude of one sine within samples."""
    window = np.hanning(len(samples))
    return 2 * abs(np.sum(samples * window * np.exp(-2j * np.pi * frequency * np.arange(len(samples)) / rate))) / window.sum()


def centroid(samples: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    return float((power * np.fft.rfftfreq(len(samples), 1 / RATE)).sum() / power.sum())


def test_samples_are_the_same_every_time_and_follow_from_their_index() -> None:
    first, second = open_source("sounds:test"), open_source("sounds:test")
    short = SoundsSource(SoundsConfig(split="test", num_samples=3))
    for index in range(3):
        one, other, third = first.read(index), second.read(index), short.read(index)
        assert one.key == other.key == first.key(index)
        assert np.array_equal(one.signal.samples, other.signal.samples)
        assert np.array_equal(one.signal.samples, third.signal.samples)
        assert one.label == other.label == third.label
    assert not np.array_equal(first.read(0).signal.samples, open_source("sounds:train").read(0).signal.samples)


def test_identities_tell_sets_apart() -> None:
    configs = [{}, {"split": "test"}, {"name": "tones"}, {"sample_rate": 8000}, {"seconds": 2.0}, {"min_seconds": 0.5}, {"seed": 1}]
    assert len({open_source(SoundsConfig.parse(config)).identity for config in configs}) == len(configs)


def test_every_kind_is_a_set_of_its_own() -> None:
    for kind, names in CLASSES.items():
        source = open_source(f"{kind}:test")
        assert source.class_names == names
        assert source.key(3) == f"{kind}-test-000003"
        assert 0 <= source.read(3).label < len(names)


def test_labels_name_the_content_and_every_class_occurs() -> None:
    source = SoundsSource(SoundsConfig(num_samples=2000, seconds=0.1, sample_rate=4000))
    assert source.class_names == tuple(name for names in CLASSES.values() for name in names)
    found = set()
    for index in range(2000):
        content = source.content(index)
        names = {
            Vowel: lambda each: f"vowel {each.name}",
            Syllable: lambda each: f"syllable {each.consonant}-{each.vowel.name}",
            Tone: lambda each: f"tone {each.note}",
            Chord: lambda each: f"chord {each.quality}",
            Noise: lambda each: f"noise {each.color}",
        }
        found.add(names[type(content)](content))
    assert found == set(source.class_names)
    for index in range(20):
        sample, content = source.read(index), source.content(index)
        assert source.class_names[sample.label] == names[type(content)](content)


def test_a_vowel_has_the_harmonics_of_its_formants() -> None:
    """Against the frequency response of analog resonators."""
    frequencies = np.arange(1, 30) * 125.0
    found = np.array([level(sound(Vowel("ae", 125.0, 125.0, 1.1)), frequency) for frequency in frequencies])
    expected = 1 / np.arange(1, 30)
    for formant, bandwidth in zip((*VOWELS["ae"], 3500), (60, 90, 150, 200), strict=True):
        resonance = 2 * np.pi * formant * 1.1
        response = signal.freqs([resonance**2], [1, 2 * np.pi * bandwidth, resonance**2], worN=2 * np.pi * frequencies)[1]
        expected = expected * np.abs(response)
    assert found / found.max() == pytest.approx(expected / expected.max(), rel=0.02, abs=1e-3)


def test_the_pitch_of_a_vowel_glides() -> None:
    samples = sound(Vowel("iy", 100.0, 140.0, 1.0))
    assert level(samples[800:2400], 102.4) > 5 * level(samples[800:2400], 140.0)
    assert level(samples[-2400:-800], 136.7) > 5 * level(samples[-2400:-800], 100.0)


@pytest.mark.parametrize("note", NOTES)
def test_a_tone_has_its_pitch_slope_and_envelope(note: str) -> None:
    samples = sound(Tone(note, 2.0, 0.02, 0.5))
    frequency = 261.6255653 * 2 ** (NOTES.index(note) / 12)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), n=16 * len(samples)))
    assert np.argmax(spectrum) / 16 == pytest.approx(frequency, abs=0.2)
    assert level(samples, 2 * frequency) / level(samples, frequency) == pytest.approx(0.25, rel=0.02)
    early, late = (level(samples[start : start + 3200], frequency) for start in (3200, 3200 + 8000))
    assert late / early == pytest.approx(np.exp(-1), rel=0.01)


@pytest.mark.parametrize("quality", CHORDS)
def test_a_chord_sounds_three_notes(quality: str) -> None:
    samples = sound(Chord(quality, -3, 3.0, 0.01, 1.0))
    levels = [level(samples, 220.0 * 2 ** (semitones / 12)) for semitones in range(12)]
    assert sorted(np.argsort(levels)[-3:]) == list(CHORDS[quality])


@pytest.mark.parametrize(("color", "exponent"), [("white", 0), ("pink", 1), ("brown", 2)])
def test_noises_fall_as_they_should(color: str, exponent: int) -> None:
    frequencies, power = signal.welch(sound(Noise(color), 8.0), RATE, nperseg=2048)
    chosen = (frequencies > 100) & (frequencies < 7000)
    slope = np.polyfit(np.log(frequencies[chosen]), np.log(power[chosen]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.1)


def test_consonants_come_before_their_vowel() -> None:
    vowel = Vowel("aa", 120.0, 120.0, 1.0)
    begins = {name: sound(Syllable(name, vowel))[: RATE // 10] for name in ("b", "d", "m", "s", "sh")}
    assert centroid(begins["s"]) > 4500 > centroid(begins["sh"]) > 2500
    murmur, opened = (sound(Syllable("m", vowel))[start : start + 1000] for start in (300, 4000))
    assert np.abs(murmur).max() < 0.6 * np.abs(opened).max()
    assert centroid(murmur) < centroid(opened)
    second = [level(sound(Syllable(name, Vowel("uw", 120.0, 120.0, 1.0)))[400:800], 1200.0) for name in ("b", "d")]
    assert second[1] > 3 * second[0], "the second formant of d starts at 1800 Hz, that of b at 720"
    late = [sound(Syllable(name, vowel), 0.5)[-4000:] for name in ("b", "d")]
    assert late[0] / np.abs(late[0]).max() == pytest.approx(late[1] / np.abs(late[1]).max(), abs=0.02), "vowels end alike"


def test_sounds_have_any_length_and_rate_and_stay_in_range() -> None:
    source = SoundsSource(SoundsConfig(min_seconds=0.1, seconds=0.6, sample_rate=44100, num_samples=40))
    lengths = set()
    for index in range(40):
        signal_, config = source.read(index).signal, source.config
        lengths.add(signal_.samples.shape[1])
        assert signal_.rate == config.sample_rate
        assert 0.25 < np.abs(signal_.samples).max() < 0.9
    assert 4410 <= min(lengths) < max(lengths) <= 26460
    assert len(lengths) > 30


def test_contradictory_sounds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"min_seconds 2.0 exceeds seconds 1.0"):
        SoundsConfig.parse({"min_seconds": 2.0})


def test_the_training_loader_resamples_once_and_cuts_in_time() -> None:
    source = SoundsSource(SoundsConfig(min_seconds=0.2, seconds=0.5, num_samples=6))
    preprocessing = AudioPreprocessing(sample_rate=8000)
    whole = [preprocessing([source.read(index).signal]).values[0] for index in range(6)]
    for cache_bytes in (0, 2**20):
        loader = TrainLoader(source, LoaderConfig(batch_size=4, size=1024, crop="random", cache_bytes=cache_bytes), preprocessing=preprocessing)
        batches = loader.batches()
        for batch in (next(batches) for _ in range(4)):
            assert batch.signals.values.shape == (4, 1, 1024)
            assert batch.labels is not None
            for values, index in zip(batch.signals, batch.indices.tolist(), strict=True):
                places = whole[index][0].unfold(0, 1024, 1)
                assert (places == values).all(dim=1).any()
