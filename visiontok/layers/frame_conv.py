"""Convolutions over the frames of a sound, centered or causal."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import pad

Edge = Literal["constant", "replicate"]
"""What stands before the first frame of a causal network: zeros, or the first frame."""


class FrameConv(nn.Conv1d):
    """A convolution that keeps the number of frames: centered between zeros (an even kernel reads one frame more on the right), or causal.

    Args:
        in_channels, out_channels, kernel, dilation, groups: as of `nn.Conv1d`.
        causal: whether it reads no later frames.
        edge: what it reads before the first frame, where it is causal.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        causal: bool,
        edge: Edge = "replicate",
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, dilation=dilation, groups=groups)
        reach = (kernel - 1) * dilation
        self.sides = (reach, 0) if causal else (reach // 2, reach - reach // 2)
        self.edge: Edge = edge if causal else "constant"

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C', T)."""
        return super().forward(pad(x, self.sides, mode=self.edge))


class CausalConvTranspose1d(nn.ConvTranspose1d):
    """A transposed convolution of every frame to `stride` samples, of which none reads a later frame: what it gives beyond is cut."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, T) -> (B, C', T * stride)."""
        return super().forward(input, output_size)[..., : input.shape[-1] * self.stride[0]]
