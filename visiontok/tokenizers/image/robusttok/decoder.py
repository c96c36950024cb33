"""A ViT that writes an image from a grid of latents (ImageFolder, Li et al. 2024, section 3.1; RobustTok)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visiontok.layers.dinov2 import DinoTrunk, level_table
from visiontok.layers.patches import unpatchify
from visiontok.layers.vit import ViTConfig, init_vit_weights, prepend


class GridQueryDecoder(nn.Module):
    """The sequence [class | mask tokens | class | latents] through a ViT; the mask tokens' outputs become patches, by one linear layer.

    Latents take their positions from the image's own table, resampled to their side; a level embedding distinguishes them from the image's tokens.

    Args:
        config: sizes.
        image_size: side of the square image in pixels.
        side: of the grid of latents, H.
        latent_dim: channels C of a latent, of all branches together.
        layer_scale, drop_path: see `DinoTrunk`.
    """

    def __init__(self, config: ViTConfig, *, image_size: int, side: int, latent_dim: int, layer_scale: float, drop_path: float) -> None:
        super().__init__()
        self.side, self.patch_size = side, config.patch_size
        self.embed = nn.Linear(latent_dim, config.dim)
        self.trunk = DinoTrunk(config, grid_side=image_size // config.patch_size, layer_scale=layer_scale, drop_path=drop_path)
        self.mask_token = nn.Parameter(torch.randn(1, config.dim) * 0.02)
        self.levels = level_table(2, config.dim)
        self.to_pixels = nn.Linear(config.dim, 3 * config.patch_size**2)
        self.apply(init_vit_weights)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, H, H, C) -> image (B, 3, S, S) around [-1, 1], not clamped."""
        trunk, patches = self.trunk, self.trunk.grid_side**2
        image_tokens = torch.cat([trunk.placed_class_token(), self.mask_token + trunk.grid_positions(trunk.grid_side)]) + self.levels[0]
        placed = self.embed(latents).flatten(1, 2) + trunk.grid_positions(self.side)
        latent_tokens = prepend(trunk.placed_class_token(), placed) + self.levels[1]
        outputs = trunk(torch.cat([image_tokens.expand(len(latents), -1, -1), latent_tokens], dim=1))
        features = outputs[:, 1 : 1 + patches].unflatten(1, (trunk.grid_side, trunk.grid_side))
        return unpatchify(self.to_pixels(features), self.patch_size).permute(0, 3, 1, 2).contiguous()
