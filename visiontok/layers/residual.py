"""Layers in turn that are added to their input."""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Sequential):
    """x + layers(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that the layers keep."""
        return x + super().forward(x)
