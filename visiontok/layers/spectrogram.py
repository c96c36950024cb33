"""Magnitude spectrograms of torch's framing in any precision, as distances of sound compare them."""

from __future__ import annotations

import torch
from torch import Tensor


def magnitudes(signal: Tensor, *, window: int, hop: int, fft_size: int | None = None) -> Tensor:
    """(..., T) -> (..., fft_size / 2 + 1, 1 + T // hop), T above fft_size / 2.

    A periodic Hann window, frames centered every `hop` samples, the signal reflected at both ends.

    Args:
        signal: real.
        window: its samples.
        hop: from one frame to the next.
        fft_size: `window` unless it is longer, which pads every frame with zeros.
    """
    hann = torch.hann_window(window, dtype=signal.dtype, device=signal.device)
    rows = signal.reshape(-1, signal.shape[-1])
    spectrum = torch.stft(rows, fft_size or window, hop, window, hann, center=True, pad_mode="reflect", return_complex=True)
    return spectrum.abs().reshape(*signal.shape[:-1], *spectrum.shape[1:])
