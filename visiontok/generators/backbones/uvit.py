"""U-ViT: bidirectional, with long skips; the backbone of masked generators."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from visiontok.generators.backbones.bert import TransformerConfig
from visiontok.layers.transformer import TransformerBlock


class UViTConfig(TransformerConfig):
    """Sizes of `UViT`.

    Attributes:
        dim: model dimension D.
        depth: number of blocks; the block in the middle comes on top of an even number.
        num_heads: attention heads.
        mlp_dim: hidden width of the feed-forward parts.
    """

    type: Literal["uvit"] = "uvit"

    def build(self, vocab_size: int, shape: tuple[int, ...]) -> UViT:
        """The network for a class and tokens of `shape`, out of a vocabulary of `vocab_size`."""
        return UViT(self, vocab_size, 1 + math.prod(shape))


class UViT(nn.Module):
    """U-ViT (arXiv 2209.12152): the output of every block in the first half is added to its mirror image's input; indices (B, L) -> (B, L, D)."""

    def __init__(self, config: UViTConfig, vocab_size: int, length: int) -> None:
        super().__init__()
        half = config.depth // 2

        def block() -> TransformerBlock:
            return TransformerBlock(config.dim, config.num_heads, mlp_dim=config.mlp_dim, qkv_bias=False)

        self.embeddings = nn.Embedding(vocab_size, config.dim)
        self.pos_embed = nn.Parameter(torch.empty(1, length, config.dim))
        self.in_blocks = nn.ModuleList(block() for _ in range(half))
        self.mid_block = block()
        self.skip_linears = nn.ModuleList(nn.Linear(2 * config.dim, config.dim) for _ in range(half))
        self.out_blocks = nn.ModuleList(block() for _ in range(half))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, indices: Tensor) -> Tensor:
        x = self.embeddings(indices) + self.pos_embed
        skips = []
        for block in self.in_blocks:
            x = block(x)
            skips.append(x)
        x = self.mid_block(x)
        for skip_linear, block in zip(self.skip_linears, self.out_blocks, strict=True):
            x = block(skip_linear(torch.cat([x, skips.pop()], dim=-1)))
        return self.norm(x)
