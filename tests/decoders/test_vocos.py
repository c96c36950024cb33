"""The inverse Fourier transform of Vocos."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from visiontok.decoders.vocos import inverse_stft


def test_the_inverse_of_a_transform_is_the_sound() -> None:
    size, hop, frames = 32, 8, 20
    window = torch.hann_window(size)
    sound = torch.rand(2, frames * hop, generator=torch.Generator().manual_seed(0))
    margin = (size - hop) // 2
    spectrum = torch.fft.rfft(F.pad(sound, (margin, margin)).unfold(1, size, hop) * window)
    torch.testing.assert_close(inverse_stft(spectrum, window, hop)[:, 0], sound, rtol=1e-4, atol=1e-5)


def test_a_single_frame_gives_a_hop() -> None:
    assert inverse_stft(torch.ones(1, 1, 17, dtype=torch.complex64), torch.hann_window(32), 8).shape == (1, 1, 8)
