"""Periodic activations of audio codecs (Ziyin et al. 2020, arXiv 2006.08195; BigVGAN, Lee et al. 2022, arXiv 2206.04658)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EPS = 1e-9


class Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha, with a frequency per channel.

    State:
        alpha: (1, C, 1), one at first.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        return x + (self.alpha * x).sin().square() / (self.alpha + _EPS)


class SnakeBeta(nn.Module):
    """x + sin(e^alpha x)^2 / e^beta, with a frequency and a height per channel.

    State:
        alpha, beta: (C,), logarithms.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        alpha, beta = self.alpha[:, None].exp(), self.beta[:, None].exp()
        return x + (x * alpha).sin().square() / (beta + _EPS)


class AntiAliased(nn.Module):
    """An activation at twice the rate, between two low-pass filters, so that the overtones that it makes do not fold back (BigVGAN, section 3.3)."""

    taps = 12
    filter: Tensor

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act
        self.register_buffer("filter", low_pass(self.taps, cutoff=0.25, half_width=0.3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        return self._down(self.act(self._up(x)))

    def _up(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, 2 T); the edges are repeated."""
        side = self.taps // 2 - 1
        cut = 2 * side + (self.taps - 2) // 2
        kernel = self.filter.expand(x.shape[1], 1, -1)
        return 2 * F.conv_transpose1d(F.pad(x, (side, side), mode="replicate"), kernel, stride=2, groups=x.shape[1])[..., cut:-cut]

    def _down(self, x: Tensor) -> Tensor:
        """(B, C, 2 T) -> (B, C, T); the edges are repeated."""
        kernel, half = self.filter.expand(x.shape[1], 1, -1), self.taps // 2
        return F.conv1d(F.pad(x, (half - 1, half), mode="replicate"), kernel, stride=2, groups=x.shape[1])


def low_pass(taps: int, *, cutoff: float, half_width: float) -> Tensor:
    """(taps,) of an even number: a sinc under Kaiser's window for a transition of the given half width, with the sum 1.

    Args:
        taps: length of the filter.
        cutoff: in cycles per sample, at most 0.5.
        half_width: of the transition, in cycles per sample.
    """
    attenuation = 2.285 * (taps // 2 - 1) * math.pi * 4 * half_width + 7.95
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    else:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21) if attenuation >= 21 else 0.0
    times = torch.arange(taps, dtype=torch.float64) - taps / 2 + 0.5
    window = torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64)
    response = window * torch.sinc(2 * cutoff * times)
    return (response / response.sum()).float()
