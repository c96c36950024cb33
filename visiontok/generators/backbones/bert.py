"""BERT's encoder: bidirectional, with post-norm blocks; the backbone of masked generators."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive, Probability
from visiontok.layers.attention import SelfAttention
from visiontok.layers.block import Block
from visiontok.layers.transformer import Mlp


class TransformerConfig(Config):
    """Sizes of a transformer with a plain feed-forward part."""

    dim: Positive
    depth: Positive
    num_heads: Positive
    mlp_dim: Positive

    @model_validator(mode="after")
    def _check_sizes(self) -> TransformerConfig:
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide dim {self.dim}")
        return self


class BertConfig(TransformerConfig):
    """Sizes of `Bert`.

    Attributes:
        dim: model dimension D.
        depth: number of blocks.
        num_heads: attention heads.
        mlp_dim: hidden width of the feed-forward parts.
        dropout: after the embedding and after both parts of every block.
        attention_dropout: of the attention probabilities.
    """

    type: Literal["bert"] = "bert"
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.1

    def build(self, vocab_size: int, shape: tuple[int, ...]) -> Bert:
        """The network for a class and tokens of `shape`, out of a vocabulary of `vocab_size`."""
        return Bert(self, vocab_size, 1 + math.prod(shape))


class PostNormBlock(Block):
    """BERT's block: `x = norm1(x + attn(x)); x = norm2(x + mlp(x))`, bidirectional (arXiv 1810.04805).

    Args:
        dim: model dimension D.
        num_heads: attention heads.
        mlp_dim: hidden dim of the feed-forward part.
        eps: of both layer norms.
        dropout: of the outputs of both parts, in training.
        attention_dropout: of the attention probabilities, in training.
    """

    def __init__(self, dim: int, num_heads: int, *, mlp_dim: int, eps: float, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.attn = SelfAttention(dim, num_heads, dropout=attention_dropout)
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, mlp_dim)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = self.norm1(x + self.dropout(self.attn(x)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class Bert(nn.Module):
    """BERT's encoder (arXiv 1810.04805): indices (B, L) -> (B, L, D)."""

    def __init__(self, config: BertConfig, vocab_size: int, length: int) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(vocab_size, config.dim)
        self.pos_embed = nn.Parameter(torch.empty(length, config.dim))
        # BERT distinguishes two sentences by the rows of this table; tokens always use the first row, but published weights have both
        self.token_type_embed = nn.Parameter(torch.empty(2, config.dim))
        self.norm = nn.LayerNorm(config.dim, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(
            *(
                PostNormBlock(
                    config.dim,
                    config.num_heads,
                    mlp_dim=config.mlp_dim,
                    eps=1e-12,
                    dropout=config.dropout,
                    attention_dropout=config.attention_dropout,
                )
                for _ in range(config.depth)
            )
        )

    def forward(self, indices: Tensor) -> Tensor:
        x = self.embeddings(indices) + self.token_type_embed[0] + self.pos_embed
        return self.blocks(self.dropout(self.norm(x)))
