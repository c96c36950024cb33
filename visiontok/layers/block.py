"""The unit of deep networks: its activations may be recomputed, and its parameters are sharded together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from visiontok.base.errors import ConfigError


class Block(nn.Module):
    """One of the equal layers of a stack, called as a module, so that what is attached to it works. Blocks do not nest."""


def blocks(model: nn.Module) -> list[Block]:
    """Of all stacks in a model, in their order."""
    return [module for module in model.modules() if isinstance(module, Block)]


def recompute_activations(model: nn.Module) -> None:
    """Keep only the inputs of every block for the backward pass, which computes the block again (gradient checkpointing, arXiv 1604.06174).

    Losses and gradients are the same: dropout draws the same numbers again, in the same precision. Without gradients nothing changes.

    Raises:
        ConfigError: if the model has no blocks.
    """
    found = blocks(model)
    if not found:
        raise ConfigError(f"gradient checkpointing: a {type(model).__name__} has no transformer blocks whose activations could be recomputed")
    for block in found:
        # Inside the module's call, so that what is attached to it (such as the gathering of sharded weights) happens once per pass.
        block.forward = partial(_recomputed, block.forward)  # type: ignore[method-assign]


def _recomputed(forward: Callable[..., Any], *args: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **options)
    return checkpoint(forward, *args, use_reentrant=False, **options)
