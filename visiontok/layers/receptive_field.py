"""How far a convolutional network reads."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from torch import nn


def reach(network: nn.Module) -> int:
    """The most input frames on either side that an output of a chain of convolutions depends on.

    Args:
        network: one-dimensional convolutions in the order in which they are applied, with anything between them that stays within a frame.
    """
    step, read = Fraction(1), Fraction(0)
    for module in network.modules():
        if isinstance(module, nn.Conv1d):
            before = module.padding[0] if isinstance(module.padding, tuple) else 0
            whole = (module.kernel_size[0] - 1) * module.dilation[0]
            read += max(int(before), whole - int(before)) * step
            step *= module.stride[0]
        elif isinstance(module, nn.ConvTranspose1d):
            read += ceil(module.kernel_size[0] / module.stride[0]) * step
            step /= module.stride[0]
    return ceil(read)
