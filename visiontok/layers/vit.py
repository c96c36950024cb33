"""Sizes and token tables that ViT encoders and decoders with latent queries share."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.layers.attention import SelfAttention
from visiontok.layers.transformer import TransformerBlock


class ViTConfig(Config):
    """Sizes of a ViT.

    Attributes:
        dim: model dimension D.
        depth: number of blocks.
        num_heads: attention heads; must divide `dim`.
        patch_size: side of a patch in pixels.
        mlp_ratio: hidden dim of the feed-forward part over D.
    """

    dim: Positive
    depth: Positive
    num_heads: Positive
    patch_size: Positive
    mlp_ratio: float = Field(default=4.0, gt=0)

    def blocks(self) -> nn.Sequential:
        """The stack of pre-norm blocks."""
        mlp_dim = int(self.dim * self.mlp_ratio)
        return nn.Sequential(*(TransformerBlock(self.dim, self.num_heads, mlp_dim=mlp_dim) for _ in range(self.depth)))


class TextTokens(nn.Module):
    """A text's embeddings as tokens of a ViT: a linear layer, and a learned position each.

    Args:
        length: T embeddings per text.
        text_dim: channels E of an embedding.
        dim: D of the ViT.
    """

    def __init__(self, *, length: int, text_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(text_dim, dim)
        self.positions = token_table(length, dim)

    def forward(self, text: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, D)."""
        return self.proj(text) + self.positions


def token_table(rows: int, dim: int) -> nn.Parameter:
    """A learned table (rows, dim) with the deviation `dim ** -0.5`."""
    return nn.Parameter(torch.randn(rows, dim) * dim**-0.5)


def init_vit_weights(module: nn.Module) -> None:
    """Truncated normal for linear and convolution weights, but Xavier for packed q, k, v; zero biases; for `Module.apply`.

    The deviation is 0.02, as published, for layers that read 512 numbers or more. Layers that read fewer get as much more as keeps the scale of
    what they write: with 0.02 throughout, a small model first spends hundreds of steps on drawing the mean image.
    """
    if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
        fan_in = module.weight[0].numel()
        nn.init.trunc_normal_(module.weight, std=0.02 * max(1.0, (512 / fan_in) ** 0.5))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, SelfAttention):
        nn.init.xavier_uniform_(module.qkv.weight)


def prepend(row: Tensor, tokens: Tensor) -> Tensor:
    """Put one learned row (1, D) before every sequence (B, L, D)."""
    return torch.cat([row.expand(len(tokens), 1, -1), tokens], dim=1)
