"""A ViT that writes a grid of image tokens from any subset of latent tokens (KARL, Duggal et al. 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.decoders.vit import CodeHead
from visiontok.layers.vit import ViTConfig, init_vit_weights, token_table
from visiontok.tokenizers.image.karl.grid_positions import GridPositions


class LatentDistillationDecoder(nn.Module):
    """The sequence [mask tokens | latents] through a ViT; the mask tokens' outputs become the grid's features.

    Args:
        config: sizes.
        max_latent_tokens: positions that a latent can have.
        latent_dim: channels C of a latent.
        position_side: of the table of grid positions.
        out_channels: of the grid's features.
    """

    def __init__(self, config: ViTConfig, *, max_latent_tokens: int, latent_dim: int, position_side: int, out_channels: int) -> None:
        super().__init__()
        dim = config.dim
        self.embed = nn.Linear(latent_dim, dim)
        self.latent_positions = token_table(max_latent_tokens, dim)
        self.mask_token = token_table(1, dim)
        self.grid_positions = GridPositions(position_side, dim)
        self.norm_pre = nn.LayerNorm(dim)
        self.blocks = config.blocks()
        self.norm_post = nn.LayerNorm(dim)
        self.apply(init_vit_weights)
        self.head = CodeHead(dim, out_channels)

    def forward(self, latents: Tensor, *, grid: tuple[int, int], positions: Tensor | None = None, kept: Tensor | None = None) -> Tensor:
        """Decode a batch.

        Args:
            latents: (B, n, C).
            grid: (h, w) of the image tokens to write.
            positions: (B, n) int64 positions of the latents; None for the first n.
            kept: (B, n) bool, False where there is no latent: it is masked. None where all are kept.

        Returns:
            (B, out_channels, h, w).
        """
        (height, width), cells = grid, grid[0] * grid[1]
        latent_positions = self.latent_positions[: latents.shape[1]] if positions is None else self.latent_positions[positions]
        masks = (self.mask_token + self.grid_positions(height, width)).expand(len(latents), -1, -1)
        x = self.norm_pre(torch.cat([masks, self.embed(latents) + latent_positions], dim=1))
        visible = None if kept is None else F.pad(kept, (cells, 0), value=True)[:, None, None]
        for block in self.blocks[:-1]:
            x = block(x, visible)
        x = self.blocks[-1](x, visible, kept=slice(cells))
        return self.head(self.norm_post(x).unflatten(1, grid))
