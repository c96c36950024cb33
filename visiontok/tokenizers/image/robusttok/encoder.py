"""A ViT that writes an image into grids of latents through queries (ImageFolder, Li et al. 2024, section 3.1; RobustTok)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visiontok.layers.dinov2 import DinoTrunk, level_table
from visiontok.layers.vit import ViTConfig, init_vit_weights, prepend


class GridQueryEncoder(nn.Module):
    """The sequence [class | patches | queries of each branch] through a ViT; the queries' outputs become the latents.

    Every branch is a square of queries. It takes its positions from the image's own table, resampled to its side, and a level embedding of its own.

    Args:
        config: sizes.
        image_size: side of the square image in pixels.
        side: of a branch, H.
        num_branches: P.
        latent_dim: channels C of a branch's latent.
        layer_scale, drop_path: see `DinoTrunk`.
    """

    def __init__(
        self, config: ViTConfig, *, image_size: int, side: int, num_branches: int, latent_dim: int, layer_scale: float, drop_path: float
    ) -> None:
        super().__init__()
        self.side, self.num_branches = side, num_branches
        self.patch_embed = nn.Conv2d(3, config.dim, config.patch_size, stride=config.patch_size)
        self.trunk = DinoTrunk(config, grid_side=image_size // config.patch_size, layer_scale=layer_scale, drop_path=drop_path)
        self.latent_tokens = nn.Parameter(torch.randn(num_branches * side**2, config.dim) * 1e-6)
        self.levels = level_table(1 + num_branches, config.dim)
        self.to_latents = nn.Linear(config.dim, latent_dim)
        self.apply(init_vit_weights)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> latents (B, H, H, P C), the channels of a branch side by side."""
        latents = self.to_latents(self.features(images))
        branches = latents.unflatten(1, (self.num_branches, self.side, self.side))
        return branches.permute(0, 2, 3, 1, 4).flatten(3)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> the queries' outputs (B, P H H, D), branch after branch, row-major."""
        trunk = self.trunk
        patches = self.patch_embed(images).flatten(2).transpose(1, 2) + trunk.grid_positions(trunk.grid_side)
        image_tokens = prepend(trunk.placed_class_token(), patches) + self.levels[0]
        levels = self.levels[1:].repeat_interleave(self.side**2, dim=0)
        queries = self.latent_tokens + trunk.grid_positions(self.side).repeat(self.num_branches, 1) + levels
        outputs = trunk(torch.cat([image_tokens, queries.expand(len(images), -1, -1)], dim=1))
        return outputs[:, -len(queries) :]
