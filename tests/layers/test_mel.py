from __future__ import annotations

import numpy as np
import pytest
import torch

from visiontok.layers.mel import MelScale, MelSpectrogram, mel_filters


@pytest.mark.parametrize(("scale", "norm"), [("slaney", "slaney"), ("htk", None)])
@pytest.mark.parametrize(("rate", "n_fft", "bins"), [(16000, 400, 80), (24000, 1024, 100), (44100, 2048, 320), (8000, 32, 5), (1600, 64, 7)])
def test_filters_are_those_of_librosa_and_torchaudio(scale: MelScale, norm: str | None, rate: int, n_fft: int, bins: int) -> None:
    from transformers.audio_utils import mel_filter_bank

    expected = mel_filter_bank(n_fft // 2 + 1, bins, 0.0, rate / 2, rate, norm=norm, mel_scale=scale)
    found = mel_filters(sample_rate=rate, n_fft=n_fft, num_bins=bins, scale=scale)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6 * expected.max())


def test_a_centered_spectrogram_is_torchs() -> None:
    sound = torch.rand(2, 1, 1000, generator=torch.Generator().manual_seed(0)) - 0.5
    window = torch.hann_window(256)
    magnitudes = torch.stft(sound[:, 0], 256, 64, window=window, return_complex=True).abs().transpose(1, 2)
    expected = magnitudes @ mel_filters(sample_rate=8000, n_fft=256, num_bins=20, scale="htk").float()
    found = MelSpectrogram(sample_rate=8000, n_fft=256, hop=64, num_bins=20, scale="htk")(sound)
    torch.testing.assert_close(found[:, 0], expected)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 640, 1001])
def test_whole_frames_cover_the_sound(length: int) -> None:
    spectrogram = MelSpectrogram(sample_rate=8000, n_fft=256, hop=64, num_bins=20, frames="whole")
    assert spectrogram(torch.zeros(1, 2, length)).shape == (1, 2, -(-length // 64), 20)


def test_a_whole_frame_has_its_hop_in_its_middle() -> None:
    spectrogram = MelSpectrogram(sample_rate=8000, n_fft=256, hop=64, num_bins=20, frames="whole")
    sound = torch.zeros(1, 1, 640)
    sound[..., 5 * 64 + 32] = 1.0
    energy = spectrogram(sound)[0, 0].sum(dim=1)
    assert energy.argmax() == 5
    torch.testing.assert_close(energy[4], energy[6])
