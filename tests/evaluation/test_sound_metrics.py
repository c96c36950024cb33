"""Metrics of sound beside the libraries in common use, and at the ends of their scales."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor
from voices import noisy, voice

from visiontok.base.errors import EvaluationError, NonFiniteError
from visiontok.layers.mel import mel_filters
from visiontok.layers.spectrogram import magnitudes
from visiontok.metrics import estoi, mel_distance, pesq, pitch, pitch_agreement, si_sdr, stft_distance, stoi, visqol

RATE = 16000


def pair(count: int = 2, **options: int) -> tuple[Tensor, Tensor]:
    originals = torch.stack([voice(seed=seed, **options) for seed in range(count)])
    return originals, noisy(originals)


def close(found: Tensor, expected: object, **tolerance: float) -> None:
    np.testing.assert_allclose(found.numpy(), np.asarray(expected, dtype=np.float64), **tolerance)


# SI-SDR.


def test_si_sdr_is_that_of_torchmetrics() -> None:
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as library

    originals, others = pair()
    close(si_sdr(originals, others), library(others, originals)[:, 0], rtol=1e-9)
    close(si_sdr(originals, 0.37 * others), si_sdr(originals, others), rtol=1e-9)


@pytest.mark.parametrize("decibels", [-60, 0, 60, 150, 250])
def test_si_sdr_holds_at_both_ends_of_the_scale(decibels: float) -> None:
    """Noise that is orthogonal to the original has exactly this ratio; libraries in float32 end at some 140 dB."""
    original = voice()[None]
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise -= (noise * original).sum() / original.square().sum() * original
    noise *= original.norm() / noise.norm() * 10 ** (-decibels / 20)
    for loudness in (1.0, 1e-200):
        assert float(si_sdr(loudness * original, original + noise)) == pytest.approx(decibels, abs=1e-3)


def test_si_sdr_of_identical_and_of_silent_sounds() -> None:
    original, silence = voice()[None], torch.zeros(1, 1, 24000)
    assert si_sdr(original, original).tolist() == [math.inf]
    assert float(si_sdr(original, 0.3 * original)) > 250
    assert torch.stack([si_sdr(original, 0 * original), si_sdr(silence, silence + 1)]).isnan().all()


def test_si_sdr_has_one_scale_for_all_channels() -> None:
    original = voice(channels=2)[None]
    assert float(si_sdr(original, original * torch.tensor([1.0, 0.5])[:, None])) < 20


# Distances of spectra.


def test_mel_filters_are_those_of_librosa() -> None:
    import librosa

    for rate, size, bands in ((16000, 1024, 80), (44100, 2048, 320), (24000, 32, 5)):
        expected = librosa.filters.mel(sr=rate, n_fft=size, n_mels=bands, dtype=np.float64)
        close(mel_filters(sample_rate=rate, n_fft=size, num_bins=bands, scale="slaney").T, expected, rtol=1e-9, atol=1e-14)


def spectra(sounds: Tensor, window: int, hop: int, size: int) -> np.ndarray:
    """Magnitudes by NumPy."""
    padded = np.pad(sounds.numpy(), [(0, 0)] * (sounds.ndim - 1) + [(size // 2, size // 2)], mode="reflect")
    middle = (size - window) // 2
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)[..., ::hop, middle : middle + window]
    return np.abs(np.fft.rfft(frames * scipy.signal.get_window("hann", window), size)).swapaxes(-1, -2)


def test_magnitudes_are_those_of_numpy() -> None:
    sounds = voice(0.3, channels=2)
    close(magnitudes(sounds, window=400, hop=100, fft_size=512), spectra(sounds, 400, 100, 512), rtol=1e-6, atol=1e-9)
    close(magnitudes(sounds[0], window=512, hop=128), spectra(sounds[0], 512, 128, 512), rtol=1e-6, atol=1e-9)


def test_mel_distance_with_the_filters_of_librosa() -> None:
    import librosa

    originals, others = pair()
    expected = np.zeros(2)
    for window, bands in ((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320)):
        filters = librosa.filters.mel(sr=RATE, n_fft=window, n_mels=bands, dtype=np.float64)
        sides = [np.log10(np.maximum(filters @ spectra(side, window, window // 4, window), 1e-5)) for side in (originals, others)]
        expected += np.abs(sides[0] - sides[1]).mean(axis=(1, 2, 3))
    close(mel_distance(originals, others, rate=RATE), expected, rtol=1e-6)


def test_stft_distance_is_that_of_auraloss() -> None:
    from auraloss.freq import MultiResolutionSTFTLoss

    originals, others = (side.float() for side in pair())
    for original, other in zip(originals, others, strict=True):
        expected = MultiResolutionSTFTLoss()(other[None], original[None])
        close(stft_distance(original[None], other[None]), [float(expected)], rtol=1e-4)


def test_distances_at_the_ends_of_their_scales() -> None:
    originals, others = pair(channels=2)
    assert mel_distance(originals, originals, rate=RATE).tolist() == [0, 0]
    assert stft_distance(originals, originals).tolist() == [0, 0]
    silence = torch.zeros_like(originals)
    assert (mel_distance(originals, silence, rate=RATE) > mel_distance(originals, others, rate=RATE)).all()
    assert mel_distance(silence, silence, rate=RATE).tolist() == [0, 0]
    assert stft_distance(silence, originals).isnan().all()
    assert stft_distance(originals, silence).isfinite().all()


@pytest.mark.parametrize("samples", [1, 1024])
def test_short_sounds_have_no_distances(samples: int) -> None:
    short = torch.ones(1, 1, samples)
    for distance in (lambda: stft_distance(short, short), lambda: mel_distance(short, short, rate=RATE)):
        with pytest.raises(EvaluationError, match="1024"):
            distance()


# Speech.


@pytest.mark.parametrize("rate", [8000, 10000, 16000, 22050, 44100])
def test_intelligibility_is_that_of_pystoi(rate: int) -> None:
    import pystoi

    originals, others = pair(rate=rate)
    for ours, extended in ((stoi, False), (estoi, True)):
        expected = [pystoi.stoi(*(side[row, 0].numpy() for side in (originals, others)), rate, extended=extended) for row in range(2)]
        close(ours(originals, others, rate=rate), expected, rtol=1e-9)


def test_intelligibility_of_identical_silent_and_short_sounds() -> None:
    original, silence = voice()[None], torch.zeros(1, 1, 24000)
    state = np.random.get_state()[1].tolist()
    for ours in (stoi, estoi):
        assert float(ours(original, original, rate=RATE)) == pytest.approx(1, abs=1e-9)
        assert ours(original, silence, rate=RATE).tolist() == [0]
        assert ours(silence, original, rate=RATE).isnan().all()
        assert ours(original[..., : RATE // 3], original[..., : RATE // 3], rate=RATE).isnan().all()
        assert torch.equal(ours(original, noisy(original), rate=RATE), ours(original, noisy(original), rate=RATE))
    assert np.random.get_state()[1].tolist() == state


def test_of_stereo_the_mean_of_both_channels_is_taken() -> None:
    originals, others = pair(1, channels=2)
    each = torch.cat([stoi(originals[:, [channel]], others[:, [channel]], rate=RATE) for channel in range(2)])
    close(stoi(originals, others, rate=RATE), [float(each.mean())], rtol=1e-12)


def test_pesq_is_that_of_the_package() -> None:
    package = pytest.importorskip("pesq", reason="PESQ needs a C compiler: pip install 'visiontok[audio-quality]'")

    original, other = (side[0, 0] for side in pair(1))
    for band in ("wb", "nb"):
        found = pesq(original[None, None], other[None, None], rate=RATE, band=band)
        if band == "wb":
            close(found, [package.pesq(RATE, original.numpy(), other.numpy(), band)], rtol=1e-6)
        assert 1 < float(found) < 4.5
    ends = {"wb": 4.643888, "nb": 4.548638}
    for band, best in ends.items():
        assert float(pesq(original[None, None], original[None, None], rate=RATE, band=band)) == pytest.approx(best, abs=1e-5)


def test_pesq_is_that_of_torchmetrics() -> None:
    pytest.importorskip("pesq", reason="PESQ needs a C compiler: pip install 'visiontok[audio-quality]'")
    from torchmetrics.functional.audio import perceptual_evaluation_speech_quality as library

    originals, others = pair(1, rate=8000)
    close(pesq(originals, others, rate=8000, band="nb"), library(others.float(), originals.float(), 8000, "nb")[0], rtol=1e-4)


def test_visqol() -> None:
    """Its conformance values are those of recordings; see the documentation."""
    pytest.importorskip("visqol", reason="ViSQOL needs a C++ compiler: pip install 'visiontok[audio-quality]'")
    original = voice(1.2, rate=48000)[None]
    found = [float(visqol(original, other, rate=48000)) for other in (original, noisy(original, 0.001), noisy(original, 0.1))]
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(4.732, abs=2e-3)
    for sides in ((0 * original, original), (original, 0 * original), (original[..., :40000], original[..., :40000])):
        assert visqol(*sides, rate=48000).isnan().all()


def test_pesq_of_silent_and_short_sounds() -> None:
    pytest.importorskip("pesq", reason="PESQ needs a C compiler: pip install 'visiontok[audio-quality]'")
    original, silence = voice()[None], torch.zeros(1, 1, 24000)
    for sides in ((silence, silence), (original, silence), (silence, original), (original[..., :3000], original[..., :3000])):
        assert pesq(*sides, rate=RATE).isnan().all()
    with pytest.raises(EvaluationError, match="8000"):
        pesq(original, original, rate=8000)


# Pitch.


def test_pitch_is_that_of_the_sound() -> None:
    time = torch.arange(RATE, dtype=torch.float64) / RATE
    for frequency in (70.0, 110.0, 233.1, 450.0):
        sound = sum(torch.sin(2 * math.pi * number * frequency * time) / number for number in (1, 2, 3))
        assert isinstance(sound, Tensor)
        found = pitch(sound[None, None], rate=RATE)
        assert found.shape[1] > 90
        close(found, np.full(found.shape, frequency), rtol=2e-3)


@pytest.mark.slow  # librosa compiles at first
def test_pitch_is_that_of_librosa() -> None:
    """Over frames of the same samples, up to the half lag by which windows may be placed otherwise."""
    import librosa

    sound = voice()
    ours = pitch(sound[None], rate=RATE)[0].numpy()
    theirs = librosa.yin(sound[0].numpy(), fmin=60, fmax=500, sr=RATE, frame_length=800, hop_length=160, trough_threshold=0.1, center=False)
    inner = slice(5, len(theirs) - 5)
    voiced = ours[inner] > 0
    gaps = [np.median(np.abs(ours[inner] / theirs[5 + shift : len(theirs) - 5 + shift] - 1)[voiced]) for shift in range(-2, 3)]
    assert voiced.mean() > 0.6
    assert min(gaps) < 5e-3


def test_pitch_agreement() -> None:
    originals, others = pair()
    found = pitch_agreement(originals, others, rate=RATE)
    assert (found.correlation > 0.99).all()
    assert (found.voicing > 0.7).all()
    same = pitch_agreement(originals, 0.1 * originals, rate=RATE)
    close(same.correlation, [1, 1], atol=1e-9)
    assert same.voicing.tolist() == [1, 1]
    assert (pitch_agreement(originals, originals.flip(-1), rate=RATE).correlation < 0.5).all()


def test_pitch_that_does_not_vary_has_no_correlation() -> None:
    steady = torch.sin(2 * math.pi * 200 * torch.arange(RATE, dtype=torch.float64) / RATE)[None, None]
    found = pitch_agreement(steady, noisy(steady, 1e-5), rate=RATE)
    assert found.correlation.isnan().all()
    assert found.voicing.tolist() == [1]
    for silent in (torch.zeros(1, 1, RATE), torch.zeros(1, 1, 3)):
        assert all(column.isnan().all() for column in pitch_agreement(silent, silent, rate=RATE))


# What is refused.


def test_sounds_of_other_shapes_and_values_are_refused() -> None:
    original = voice(0.5)[None]
    functions = (
        si_sdr,
        stft_distance,
        lambda a, b: mel_distance(a, b, rate=RATE),
        lambda a, b: stoi(a, b, rate=RATE),
        lambda a, b: pitch_agreement(a, b, rate=RATE),
    )
    for function in functions:
        with pytest.raises(EvaluationError, match="8000"):
            function(original, original[..., :-1])
        with pytest.raises(NonFiniteError):
            function(original, original * torch.nan)
