"""Convolutions over the frames of a sound, centered or causal."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad

from visiontok.layers.carry import Carry, CarryingLayer, Edge, preceded, upsampled


class FrameConv(nn.Conv1d, CarryingLayer):
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
        self.reach, self.causal, self.edge = (kernel - 1) * dilation, causal, edge

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        """(B, C, T) -> (B, C', T)."""
        if self.causal:
            return super().forward(preceded(x, self.reach, self.edge, layer=self, carry=carry))
        return super().forward(pad(x, (self.reach // 2, self.reach - self.reach // 2)))


class CausalConvTranspose1d(nn.ConvTranspose1d, CarryingLayer):
    """A transposed convolution of every frame to `stride` samples, of which none reads a later frame: what it gives beyond is cut."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride)

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:  # type: ignore[override]
        """(B, C, T) -> (B, C', T * stride)."""
        return super().forward(x)[..., : x.shape[-1] * self.stride[0]] if carry is None else upsampled(self, x, carry)
