"""The block of ConvNeXt (Liu et al. 2022, arXiv 2201.03545) over frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visiontok.layers.activations import gelu
from visiontok.layers.carry import Carry, CarryingLayer, Edge
from visiontok.layers.frame_conv import FrameConv


class ConvNeXtBlock(CarryingLayer):
    """A depthwise convolution, a norm and two linear layers, scaled per channel and added to the input.

    Args:
        dim: C.
        mlp_dim: between the linear layers.
        scale: of every channel at first.
        kernel: of the convolution.
        causal: whether it reads no later frames.
        edge: what it reads before the first frame, where it is causal.
    """

    def __init__(self, dim: int, mlp_dim: int, *, scale: float, kernel: int = 7, causal: bool = False, edge: Edge = "constant") -> None:
        super().__init__()
        self.conv = FrameConv(dim, dim, kernel, causal=causal, edge=edge, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.linear1 = nn.Linear(dim, mlp_dim)
        self.linear2 = nn.Linear(mlp_dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        hidden = self.linear2(gelu(self.linear1(self.norm(self.conv(x, carry).transpose(1, 2)))))
        result: Tensor = x + (self.scale * hidden).transpose(1, 2)
        return result
