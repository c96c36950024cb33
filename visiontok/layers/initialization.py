"""Weights at the start of training."""

from __future__ import annotations

from torch import nn


def xavier_linears(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer within a module."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)


def normal_weights(module: nn.Module, *, std: float = 0.02) -> None:
    """Normal weights for every linear layer and embedding within a module; biases stay."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
