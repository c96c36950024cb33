"""A transformer that writes a grid of features into ordered registers (FlexTok, Bachmann et al. 2025, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visiontok.layers.patches import patchify, sincos_positions
from visiontok.layers.vit import token_table
from visiontok.tokenizers.image.flextok.trunk import RegisterTrunkConfig, init_register_weights


class RegisterEncoder(nn.Module):
    """The sequence [patches | registers] through a transformer; the registers' outputs become the latents.

    Patches see all patches and no register; a register sees all patches and the registers up to itself. So what a register holds does not
    depend on those after it.

    Args:
        config: sizes.
        channels: of the grid.
        grid_size: side of the square grid.
        patch_size: side of a patch on it.
        num_registers: N.
        latent_dim: channels of a latent.
    """

    patch_positions: Tensor
    mask: Tensor

    def __init__(self, config: RegisterTrunkConfig, *, channels: int, grid_size: int, patch_size: int, num_registers: int, latent_dim: int) -> None:
        super().__init__()
        side = grid_size // patch_size
        self.patch_size, self.num_patches = patch_size, side**2
        self.patch_embed = nn.Linear(channels * patch_size**2, config.dim)
        self.register_buffer("patch_positions", sincos_positions(side, side, config.dim))
        self.registers = token_table(num_registers, config.dim)
        self.blocks = config.blocks()
        self.norm = nn.LayerNorm(config.dim, elementwise_affine=False)
        self.to_latents = nn.Linear(config.dim, latent_dim)
        self.apply(init_register_weights)
        nn.init.zeros_(self.to_latents.weight)  # as published: all latents start at the middle of every scalar
        length = self.num_patches + num_registers
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        mask[:, : self.num_patches] = True
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, H, W, C) -> latents (B, N, latent_dim)."""
        patches = self.patch_embed(patchify(grid, self.patch_size)) + self.patch_positions
        x = torch.cat([patches, self.registers.expand(len(grid), -1, -1)], dim=1)
        for block in self.blocks[:-1]:
            x = block(x, mask=self.mask)
        x = self.blocks[-1](x, mask=self.mask, kept=slice(self.num_patches, None))
        return self.to_latents(self.norm(x))
