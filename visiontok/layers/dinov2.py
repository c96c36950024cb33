"""The trunk of a ViT in DINOv2's shape (Oquab et al. 2023, arXiv 2304.07193), for nets that add tokens of their own to the image's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.layers.transformer import TransformerBlock
from visiontok.layers.vit import ViTConfig


class DinoTrunk(nn.Module):
    """Class token, positions, pre-norm blocks with layer scales, and the last norm.

    Args:
        config: sizes.
        grid_side: patches along a side of the image, G.
        layer_scale: initial scale of every branch.
        drop_path: of the last block; it rises evenly from 0 at the first.
    """

    def __init__(self, config: ViTConfig, *, grid_side: int, layer_scale: float, drop_path: float) -> None:
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
        table = self.positions[1:]
        if side == self.grid_side:
            return table
        square = table.T.unflatten(1, (self.grid_side, self.grid_side))[None]
        return F.interpolate(square, size=(side, side), mode="bicubic", antialias=True)[0].flatten(1).T


def level_table(rows: int, dim: int) -> nn.Parameter:
    """A learned table (rows, D) that tells groups of tokens apart."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, dim), std=(3 * dim) ** -0.5))
