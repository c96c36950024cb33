"""A plain ViT that reads an image into one feature per patch."""

from __future__ import annotations

from torch import Tensor, nn

from visiontok.layers.vit import ViTConfig, init_vit_weights, token_table


class GridViTEncoder(nn.Module):
    """Patches with learned positions through a ViT; no class token.

    Args:
        config: sizes.
        image_size: side of the square image in pixels.
        latent_dim: channels C of a latent.
    """

    def __init__(self, config: ViTConfig, *, image_size: int, latent_dim: int) -> None:
        super().__init__()
        dim, self.grid = config.dim, image_size // config.patch_size
        self.patch_embed = nn.Conv2d(3, dim, config.patch_size, stride=config.patch_size, bias=False)
        self.positions = token_table(self.grid**2, dim)
        self.norm_pre = nn.LayerNorm(dim)
        self.blocks = config.blocks()
        self.norm_post = nn.LayerNorm(dim)
        self.to_latents = nn.Linear(dim, latent_dim)
        self.apply(init_vit_weights)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> latents (B, grid, grid, C)."""
        x = self.patch_embed(images).flatten(2).transpose(1, 2) + self.positions
        x = self.norm_post(self.blocks(self.norm_pre(x)))
        return self.to_latents(x).unflatten(1, (self.grid, self.grid))
