"""Sounds with a pitch that glides, for metrics of speech."""

import math

import torch
from torch import Tensor


def voice(seconds: float = 1.5, *, rate: int = 16000, channels: int = 1, seed: int = 0) -> Tensor:
    """(C, T) float64 in [-1, 1]: harmonics of a gliding pitch, in syllables."""
    draw = torch.Generator().manual_seed(seed)
    start, depth = 100 + 60 * float(torch.rand(1, generator=draw)), 20 + 20 * float(torch.rand(1, generator=draw))
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    channel = torch.arange(channels, dtype=torch.float64)[:, None]
    phase = 2 * math.pi * torch.cumsum(start + depth * torch.sin(2 * math.pi * 1.3 * time + channel), dim=-1) / rate
    harmonics = sum(torch.sin(number * phase) / number for number in range(1, 21))
    assert isinstance(harmonics, Tensor)
    return 0.3 * harmonics * (0.05 + torch.sin(2 * math.pi * 2 * time + 0.3).square())


def noisy(sounds: Tensor, level: float = 0.02, seed: int = 1) -> Tensor:
    """The same with white noise."""
    return sounds + level * torch.randn(sounds.shape, generator=torch.Generator().manual_seed(seed), dtype=sounds.dtype)
