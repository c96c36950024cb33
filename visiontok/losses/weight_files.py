"""Frozen networks of losses: their weights come from a file that the user names; nothing is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from visiontok.base.errors import CheckpointError
from visiontok.base.torch_files import read_torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def read_state_dict(path: Path) -> dict[str, Any]:
    """A state dict from a `.pth` or `.safetensors` file, without running any code from it.

    Raises:
        CheckpointError: if the file is missing or no state dict.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no weight file {path}. Download it from its publisher; visiontok does not download such weights.")
    try:
        weights = load_file(path) if path.suffix == ".safetensors" else read_torch(path)
    except Exception as error:  # torch and safetensors raise many kinds for damaged files
        raise CheckpointError(f"{path} is not a readable weight file: {error}") from error
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path} holds a {type(weights).__name__}; expected a state dict")
    return weights


def frozen(net: nn.Module, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """The network with these weights, in evaluation mode, without gradients of its parameters.

    Raises:
        CheckpointError: if the weights are another network's.
    """
    try:
        net.load_state_dict(state_dict)
    except RuntimeError as error:
        raise CheckpointError(f"the weights do not belong to {type(net).__name__}: {error}") from error
    return net.eval().requires_grad_(False)


class ImageNetNormalization(nn.Module):
    """RGB in [0, 1] -> what networks trained on ImageNet read."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN, dtype=torch.float32)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD, dtype=torch.float32)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W)."""
        return (images - self.mean) / self.std
