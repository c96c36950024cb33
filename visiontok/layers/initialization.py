"""Weights at the start of training."""

from __future__ import annotations

from torch import nn


def xavier_linears(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer within a module."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
