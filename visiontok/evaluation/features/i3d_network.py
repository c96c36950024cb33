"""Inception 3D (Carreira and Zisserman, arXiv 1705.07750) trained on Kinetics-400, the network behind FVD; names as in the published weight files."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 400

_MIXED = {
    "3b": (192, (64, 96, 128, 16, 32, 32)),
    "3c": (256, (128, 128, 192, 32, 96, 64)),
    "4b": (480, (192, 96, 208, 16, 48, 64)),
    "4c": (512, (160, 112, 224, 24, 64, 64)),
    "4d": (512, (128, 128, 256, 24, 64, 64)),
    "4e": (512, (112, 144, 288, 32, 64, 64)),
    "4f": (528, (256, 160, 320, 32, 128, 128)),
    "5b": (832, (256, 160, 320, 32, 128, 128)),
    "5c": (832, (384, 192, 384, 48, 128, 128)),
}
"""Block -> channels in, and of the branches: 1x1; 1x1 and 3x3; 1x1 and 3x3; 1x1 after pooling."""


class I3DNetwork(nn.Module):
    """Clips (B, 3, T, 224, 224) in [-1, 1] -> logits (B, 400), means over time. Built without weights, for evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, kernel=7, stride=2)
        self.Conv3d_2b_1x1 = _Unit(64, 64, kernel=1)
        self.Conv3d_2c_3x3 = _Unit(64, 192, kernel=3)
        for name, (channels, branches) in _MIXED.items():
            self.add_module(f"Mixed_{name}", _Mixed(channels, branches))
        self.logits = _Unit(1024, CLASSES, kernel=1, is_head=True)
        self.eval().requires_grad_(False)

    def forward(self, clips: Tensor) -> Tensor:
        x = _pool(self.Conv3d_1a_7x7(clips), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        x = _pool(self._mixed(x, "3b", "3c"), (3, 3, 3), (2, 2, 2))
        x = _pool(self._mixed(x, "4b", "4c", "4d", "4e", "4f"), (2, 2, 2), (2, 2, 2))
        x = F.avg_pool3d(self._mixed(x, "5b", "5c"), (2, 7, 7), stride=1)
        return self.logits(x).flatten(3).squeeze(3).mean(dim=2)

    def _mixed(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = self.get_submodule(f"Mixed_{name}")(x)
        return x


class _Unit(nn.Module):
    """Convolution with "same" padding, batch norm and ReLU; the head has a bias instead of the latter two."""

    def __init__(self, channels: int, out_channels: int, *, kernel: int, stride: int = 1, is_head: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(channels, out_channels, kernel, stride=stride, bias=is_head)
        self.bn = None if is_head else nn.BatchNorm3d(out_channels, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(_padded(x, self.kernel, self.stride))
        return x if self.bn is None else F.relu(self.bn(x))


class _Mixed(nn.Module):
    def __init__(self, channels: int, branches: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        first, reduce3, three, reduce5, five, pooled = branches
        self.b0 = _Unit(channels, first, kernel=1)
        self.b1a, self.b1b = _Unit(channels, reduce3, kernel=1), _Unit(reduce3, three, kernel=3)
        self.b2a, self.b2b = _Unit(channels, reduce5, kernel=1), _Unit(reduce5, five, kernel=3)
        self.b3b = _Unit(channels, pooled, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(_pool(x, (3, 3, 3), (1, 1, 1)))], dim=1)


def _pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    return F.max_pool3d(_padded(x, kernel, stride), kernel, stride)


def _padded(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Zero padding as TensorFlow's "same": where it is uneven, the end gets more."""
    amounts: list[int] = []
    for size, width, step in zip(x.shape[2:], kernel, stride, strict=True):
        rest = size % step or step
        total = max(width - rest, 0)
        amounts = [total // 2, total - total // 2, *amounts]
    return F.pad(x, amounts)
