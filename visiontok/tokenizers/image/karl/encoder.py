"""A ViT that distills a grid of image tokens into latent tokens and predicts which of them are needed (KARL, Duggal et al. 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visiontok.layers.vit import ViTConfig, init_vit_weights, token_table
from visiontok.tokenizers.image.karl.grid_positions import GridPositions


class LatentDistillationEncoder(nn.Module):
    """The sequence [condition | image grid | latent queries] through a ViT; the queries' outputs become latents and halting logits.

    The norm before the blocks also covers the condition. Rows of the condition's table start at random: constant rows, as the authors' code
    has them, are all the same to that norm.

    Args:
        config: sizes; a patch is a position of the grid.
        grid_channels: channels of the grid's features, beside which the patches' own embedding gets the rest of the dim.
        max_latent_tokens: number of queries.
        latent_dim: channels C of a latent.
        num_conditions: rows of the condition's table.
        position_side: of the table of grid positions.
        halting_dim: hidden dim of the halting head.
    """

    def __init__(
        self,
        config: ViTConfig,
        *,
        grid_channels: int,
        max_latent_tokens: int,
        latent_dim: int,
        num_conditions: int,
        position_side: int,
        halting_dim: int,
    ) -> None:
        super().__init__()
        dim = config.dim
        self.patch_embed = nn.Conv2d(3, dim - grid_channels, config.patch_size, stride=config.patch_size)
        self.grid_positions = GridPositions(position_side, dim)
        self.conditions = token_table(num_conditions, dim)
        self.latent_tokens = token_table(max_latent_tokens, dim)
        self.norm_pre = nn.LayerNorm(dim)
        self.blocks = config.blocks()
        self.norm_post = nn.LayerNorm(dim)
        self.to_latents = nn.Linear(dim, latent_dim)
        self.norm_halting = nn.LayerNorm(dim)
        self.halting = nn.Sequential(nn.Linear(dim, halting_dim), nn.Tanh(), nn.Linear(halting_dim, 1))
        self.apply(init_vit_weights)

    def forward(self, images: Tensor, features: Tensor, condition: Tensor, *, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Distill a batch.

        Args:
            images: (B, 3, H, W) in [0, 1].
            features: (B, h, w, grid_channels) of the same images.
            condition: (B,) int64 rows of the condition's table.
            num_tokens: queries used, from the first on.

        Returns:
            latents (B, num_tokens, C) and halting logits (B, num_tokens).
        """
        _, height, width, _ = features.shape
        grid = torch.cat([self.patch_embed(images).permute(0, 2, 3, 1), features], dim=-1).flatten(1, 2)
        queries = self.latent_tokens[:num_tokens].expand(len(images), -1, -1)
        sequence = torch.cat([self.conditions[condition][:, None], grid + self.grid_positions(height, width), queries], dim=1)
        x = self.blocks[-1](self.blocks[:-1](self.norm_pre(sequence)), kept=slice(-num_tokens, None))
        return self.to_latents(self.norm_post(x)), self.halting(self.norm_halting(x)).squeeze(-1)
