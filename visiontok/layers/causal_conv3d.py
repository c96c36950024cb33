"""Convolutions of clips that read no later frame."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor, nn

from visiontok.layers.carry import Carry, Edge, preceded

Border: TypeAlias = Literal["zeros", "replicate"]


class CausalConv3d(nn.Conv3d):
    """A causal convolution whose first frame stands by itself: 1 + n * stride frames become 1 + n.

    Args:
        in_channels, out_channels: widths.
        kernel: frames, rows and columns; one number for all three.
        stride: of the three.
        edge: what it reads before the first frame.
        padding: rows and columns beyond the borders of frames; None for half a kernel.
        border: what lies there: zeros, or the nearest pixels ("replicate"), so that even ground is no border.

    Raises:
        ValueError: if it moves by more frames than it reads, so that some are never read.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int, int],
        *,
        stride: tuple[int, int, int] = (1, 1, 1),
        edge: Edge = "replicate",
        padding: tuple[int, int] | None = None,
        border: Border = "zeros",
        bias: bool = True,
    ) -> None:
        kernel = (kernel,) * 3 if isinstance(kernel, int) else kernel
        frames, *sides = kernel
        if stride[0] > frames:
            raise ValueError(f"a kernel of {frames} frames cannot move by {stride[0]}")
        rows, columns = (side // 2 for side in sides) if padding is None else padding
        super().__init__(in_channels, out_channels, kernel, stride=stride, padding=(0, rows, columns), padding_mode=border, bias=bias)
        self.edge = edge

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W'): T' = 1 + (T - 1) / stride of a clip or its first chunk, T / stride of a later chunk."""
        frames, step = self.kernel_size[0], self.stride[0]
        if frames > 1:
            x = preceded(x, frames - 1, self.edge, layer=self, carry=carry, kept=frames - step)
        return super().forward(x)
