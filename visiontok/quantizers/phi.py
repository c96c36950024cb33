"""The convolutions phi of multi-scale quantizers: they repair what enlarging the codes of a coarse scale blurs."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from visiontok.base.config import Config


class PhiConfig(Config):
    """Convolutions that scales share.

    Attributes:
        num_convs: spread uniformly over the scales; 0 gives each scale its own.
        strength: share of the convolution in phi(h) = (1 - strength) h + strength conv(h).
    """

    num_convs: int = Field(default=4, ge=0)
    strength: float = Field(default=0.5, ge=0, le=1)

    def build(self, *, channels: int, num_scales: int) -> Phi:
        """The convolutions for codes of that many channels."""
        return Phi(self, channels=channels, num_scales=num_scales)


class Phi(nn.Module):
    """3x3 convolutions with bias, of which each scale has one.

    State:
        convs: K convolutions; those that no scale uses are frozen.
    """

    def __init__(self, config: PhiConfig, *, channels: int, num_scales: int) -> None:
        super().__init__()
        self.strength = config.strength
        count = config.num_convs or num_scales
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, dtype=torch.float32) for _ in range(count))
        self.conv_of = convolution_of_scales(count, num_scales)
        for number, conv in enumerate(self.convs):  # one that no scale uses gets no gradient, for which wrappers for several processes would wait
            conv.requires_grad_(number in self.conv_of)

    def forward(self, codes: Tensor, scale: int) -> Tensor:
        """(B, H, W, D) of one scale -> (B, H, W, D)."""
        conv = self.convs[self.conv_of[scale]]
        convolved = conv(codes.to(next(conv.parameters()).dtype).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return codes * (1 - self.strength) + convolved * self.strength


def convolution_of_scales(num_convs: int, num_scales: int) -> tuple[int, ...]:
    """Which of K convolutions each of S scales uses: the one whose tick in (0, 1) lies nearest to s / (S - 1), the first among equals.

    Ticks are computed as VAR's code does, in float64 and by the same formula: for 4 convolutions and 10 scales two distances tie but for their
    rounding, and the released weights were trained with what it decides.
    """
    margin = 1 / 3 / num_convs if num_convs == 4 else 1 / 2 / num_convs
    ticks = np.linspace(margin, 1 - margin, num_convs)
    return tuple(int(np.argmin(np.abs(ticks - scale / max(num_scales - 1, 1)))) for scale in range(num_scales))
