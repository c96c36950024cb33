"""Layers in turn that are added to their input."""

from __future__ import annotations

from torch import Tensor

from visiontok.layers.carry import Carry, CarryingSequence


class Residual(CarryingSequence):
    """x + layers(x)."""

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        """Any shape that the layers keep."""
        return x + super().forward(x, carry)
