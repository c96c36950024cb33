"""The time of a flow or diffusion process as a vector."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from visiontok.layers.activations import silu


class TimestepEmbedding(nn.Module):
    """Cosines and sines of the time at falling frequencies (cosines first), then linear, SiLU, linear.

    Args:
        dim: D of the embedding.
        features: cosines and sines together; even.
        period: the frequencies fall from `time_scale` to nearly `time_scale / period`.
        time_scale: multiplies the time; 1000 for times in [0, 1] where a network was made for steps up to 1000.
    """

    def __init__(self, dim: int, *, features: int = 256, period: float = 10_000.0, time_scale: float = 1.0) -> None:
        super().__init__()
        self.num_frequencies, self.period, self.time_scale = features // 2, period, time_scale
        self.fc1 = nn.Linear(features, dim)
        self.fc2 = nn.Linear(dim, dim)

    def forward(self, times: Tensor) -> Tensor:
        """(B,) -> (B, D)."""
        # Not a buffer: in half precision the frequencies would be wrong by whole turns.
        # In this order: angles reach thousands, where the last digit of a frequency shows.
        frequencies = torch.exp(
            -math.log(self.period) * torch.arange(self.num_frequencies, dtype=torch.float32, device=times.device) / self.num_frequencies
        )
        angles = times.float()[:, None] * (self.time_scale * frequencies)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.fc2(silu(self.fc1(waves.to(self.fc1.weight.dtype))))
