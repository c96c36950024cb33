"""ViTs of DINO (Caron et al. 2021, arXiv 2104.14294) and DINOv2 (Oquab et al. 2023, arXiv 2304.07193), and their published weights at any size.

`DinoTrunk` is for nets that add tokens of their own to the image's, `DinoViT` is the whole encoder of an image, frozen teachers and discriminators
among them. `dino_weights` fits a published state dict to patches and images of another size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.errors import CheckpointError
from visiontok.layers.transformer import TransformerBlock
from visiontok.layers.vit import ViTConfig


class DinoTrunk(nn.Module):
    """Class token, positions, pre-norm blocks with layer scales, and the last norm.

    Args:
        config: sizes.
        grid_side: patches along a side of the image, G.
        layer_scale: initial scale of every branch; None for no such scales, as in DINO.
        drop_path: of the last block; it rises evenly from 0 at the first.
    """

    def __init__(self, config: ViTConfig, *, grid_side: int, layer_scale: float | None, drop_path: float) -> None:
        super().__init__()
        self.grid_side = grid_side
        self.class_token = nn.Parameter(torch.randn(1, config.dim) * 1e-6)
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(grid_side**2 + 1, config.dim), std=0.02))
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(
                    config.dim,
                    config.num_heads,
                    mlp_dim=int(config.dim * config.mlp_ratio),
                    eps=1e-6,
                    layer_scale=layer_scale,
                    drop_path=drop_path * number / max(config.depth - 1, 1),
                )
                for number in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, D) with their positions -> (B, L, D)."""
        return self.norm(self.blocks(tokens))

    def placed_class_token(self) -> Tensor:
        """(1, D)."""
        return self.class_token + self.positions[:1]

    def grid_positions(self, side: int) -> Tensor:
        """The positions of the image's grid, resampled (bicubic, antialiased) to a grid of `side` by `side`: (side ** 2, D)."""
        return _resampled_table(self.positions[1:], side)


class DinoViT(nn.Module):
    """An image as a class token and a grid of patches through a trunk.

    Args:
        config: sizes.
        image_size: side S of the images.
        layer_scale: see `DinoTrunk`.
    """

    def __init__(self, config: ViTConfig, *, image_size: int, layer_scale: float | None = 1e-5) -> None:
        super().__init__()
        self.image_size = image_size
        self.patch_embed = nn.Conv2d(3, config.dim, config.patch_size, stride=config.patch_size)
        self.trunk = DinoTrunk(config, grid_side=image_size // config.patch_size, layer_scale=layer_scale, drop_path=0.0)

    def forward(self, images: Tensor) -> Tensor:
        """Normalized images (B, 3, S, S) -> (B, 1 + G G, D), the class token first."""
        return self.trunk(self.embed(images))

    def embed(self, images: Tensor) -> Tensor:
        """What the blocks read: tokens with their positions, (B, 1 + G G, D)."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.trunk.class_token.expand(len(images), 1, -1), patches], dim=1)
        return tokens + self.trunk.positions


def level_table(rows: int, dim: int) -> nn.Parameter:
    """A learned table (rows, D) that distinguishes groups of tokens."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, dim), std=(3 * dim) ** -0.5))


def dino_weights(state_dict: Mapping[str, Tensor], *, patch_size: int, grid_side: int) -> dict[str, Tensor]:
    """The tensors of a `DinoViT` from those of a published DINO or DINOv2 (Meta's names, which timm shares), fitted to other sizes.

    Positions are resampled (bicubic, antialiased); patch kernels so that they answer to resized patches as the published ones to the originals
    (Beyer et al. 2023, arXiv 2212.08013).

    Args:
        state_dict: the published tensors.
        patch_size: side of a patch of the `DinoViT` in pixels.
        grid_side: its patches along a side of the image.

    Raises:
        CheckpointError: naming tensors that are missing or unknown, such as those of models with register tokens.
    """
    missing = [key for key in ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight") if key not in state_dict]
    if missing:
        raise CheckpointError(f"these are no weights of a DINO or DINOv2: {', '.join(missing)} missing; expected the names of Meta's or timm's files")
    weights, unknown = {}, []
    for key, tensor in state_dict.items():
        if key.startswith("blocks."):
            weights[f"trunk.{key}".replace(".ls1.gamma", ".scale1").replace(".ls2.gamma", ".scale2")] = tensor
        elif key.startswith("norm."):
            weights[f"trunk.{key}"] = tensor
        elif key == "patch_embed.proj.weight":
            weights["patch_embed.weight"] = _resampled_kernels(tensor, patch_size)
        elif key == "patch_embed.proj.bias":
            weights["patch_embed.bias"] = tensor
        elif key == "cls_token":
            weights["trunk.class_token"] = tensor.flatten(0, 1)
        elif key == "pos_embed":
            table = tensor.flatten(0, 1)
            weights["trunk.positions"] = torch.cat([table[:1], _resampled_table(table[1:], grid_side)])
        elif key != "mask_token":  # of masked patches, in training only
            unknown.append(key)
    if unknown:
        raise CheckpointError(f"tensors of another kind of ViT: {', '.join(unknown[:10])}; take a DINO or DINOv2 without registers and heads")
    return weights


def _resampled_table(table: Tensor, side: int) -> Tensor:
    """Positions of a square grid (G * G, D) -> (side * side, D)."""
    before = math.isqrt(len(table))
    if before**2 != len(table):
        raise CheckpointError(f"a table of {len(table)} positions is no square grid")
    if side == before:
        return table
    square = table.T.unflatten(1, (before, before))[None]
    return F.interpolate(square, size=(side, side), mode="bicubic", antialias=True)[0].flatten(1).T


def _resampled_kernels(kernels: Tensor, size: int) -> Tensor:
    """(D, C, P, P) -> (D, C, size, size): the kernels whose product with an enlarged patch is nearest to that of the originals with the patch."""
    before = kernels.shape[-1]
    if size == before:
        return kernels
    basis = torch.eye(before**2, dtype=torch.float64).unflatten(1, (1, before, before))
    resize = F.interpolate(basis, size=(size, size), mode="bicubic", antialias=True).flatten(1)  # (before ** 2, size ** 2)
    resampled = kernels.double().flatten(2) @ torch.linalg.pinv(resize).T
    return resampled.unflatten(2, (size, size)).to(kernels.dtype)
