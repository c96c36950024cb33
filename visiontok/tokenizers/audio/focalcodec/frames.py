"""Convolutions over frames, centered or causal."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

Edge = Literal["constant", "replicate"]
"""What stands before the first frame of a causal network: zeros, or the first frame."""


class FrameConv(nn.Conv1d):
    """A convolution that keeps the number of frames: centered between zeros (an even kernel reads one frame more on the right), or causal."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, causal: bool, edge: Edge = "replicate", groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, groups=groups)
        self.sides = (kernel - 1, 0) if causal else ((kernel - 1) // 2, kernel // 2)
        self.edge: Edge = edge if causal else "constant"

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C', T)."""
        return super().forward(pad(x, self.sides, mode=self.edge))


class DynamicTanh(nn.Module):
    """tanh(alpha x) with one learned number, in place of a norm (Zhu et al. 2025, arXiv 2503.10622)."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return (self.alpha * x).tanh()


class FeedForward(nn.Module):
    """Two linear layers with a GELU between; (..., C) -> (..., C)."""

    def __init__(self, dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(dim, mlp_dim), nn.Linear(mlp_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out_proj(nn.functional.gelu(self.in_proj(x)))
        return out
