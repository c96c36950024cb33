"""Small networks in the shape of DINO and DINOv2, saved under their published names."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

SIZES = {"dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}


def published_weights(*, layer_scale: bool, patch_size: int = 8, grid_side: int = 4, dim: int = 16, depth: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.2

    weights = {"cls_token": draw(1, 1, dim), "pos_embed": draw(1, 1 + grid_side**2, dim), "norm.weight": draw(dim), "norm.bias": draw(dim)}
    weights |= {"patch_embed.proj.weight": draw(dim, 3, patch_size, patch_size), "patch_embed.proj.bias": draw(dim)}
    for block in range(depth):
        name = f"blocks.{block}"
        for norm in ("norm1", "norm2"):
            weights |= {f"{name}.{norm}.weight": 1 + draw(dim), f"{name}.{norm}.bias": draw(dim)}
        for layer, (rows, columns) in {
            "attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim), "mlp.fc1": (4 * dim, dim), "mlp.fc2": (dim, 4 * dim),
        }.items():  # fmt: skip
            weights |= {f"{name}.{layer}.weight": draw(rows, columns), f"{name}.{layer}.bias": draw(rows)}
        if layer_scale:
            weights |= {f"{name}.ls1.gamma": draw(dim), f"{name}.ls2.gamma": draw(dim)}
    return weights


def save_dino(path: Path) -> Path:
    torch.save(published_weights(layer_scale=False), path)
    return path


def save_dinov2(path: Path, **sizes: int) -> Path:
    torch.save(published_weights(layer_scale=True, **sizes), path)
    return path
