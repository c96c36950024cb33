"""A plain ViT that writes an image from one latent per patch."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.layers.vit import ViTConfig, init_vit_weights, token_table


class GridViTDecoder(nn.Module):
    """Latents with learned positions through a ViT, then a layer with tanh and a linear layer to the pixels of each patch.

    Args:
        config: sizes.
        image_size: side of the square image in pixels.
        latent_dim: channels C of a latent.
        head_dim: dim of the tanh layer.
    """

    def __init__(self, config: ViTConfig, *, image_size: int, latent_dim: int, head_dim: int) -> None:
        super().__init__()
        dim, self.patch_size = config.dim, config.patch_size
        self.embed = nn.Linear(latent_dim, dim)
        self.positions = token_table((image_size // config.patch_size) ** 2, dim)
        self.norm_pre = nn.LayerNorm(dim)
        self.blocks = config.blocks()
        self.norm_post = nn.LayerNorm(dim)
        self.head = nn.Sequential(nn.Linear(dim, head_dim), nn.Tanh(), nn.Linear(head_dim, 3 * config.patch_size**2))
        self.apply(init_vit_weights)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, 3, h * p, w * p), not clamped; the features of a patch are ordered (color, row, column)."""
        _, height, width, _ = latents.shape
        x = self.norm_pre(self.embed(latents.flatten(1, 2)) + self.positions)
        patches = self.head(self.norm_post(self.blocks(x)))
        return F.pixel_shuffle(patches.transpose(1, 2).unflatten(2, (height, width)), self.patch_size)
