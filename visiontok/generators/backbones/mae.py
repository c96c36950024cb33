"""A masked autoencoder over the positions of a sample (MAE, arXiv 2111.06377), as MAR (arXiv 2406.11838) makes a backbone of it.

The encoder reads buffer rows, which hold the condition, and the known positions only; the decoder reads both and a mask token at every unknown
position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive, Probability
from visiontok.generators.orders import at_positions
from visiontok.layers.initialization import xavier_linears
from visiontok.layers.transformer import TransformerBlock

INPUT_EPS = 1e-6
"""Of the norm over the embedded positions, whatever `norm_eps` is."""


class MaeSizes(Config):
    """Sizes of one of the two transformers.

    Attributes:
        dim: model dimension.
        depth: number of blocks.
        num_heads: attention heads; must divide `dim`.
    """

    dim: Positive
    depth: Positive
    num_heads: Positive

    @model_validator(mode="after")
    def _check_heads(self) -> MaeSizes:
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} must divide dim {self.dim}")
        return self


class MaeConfig(Config):
    """Sizes of a `MaeBackbone`.

    Attributes:
        encoder, decoder: of both transformers.
        buffer_size: rows in front of the positions that hold the condition.
        mlp_ratio: hidden dim of the feed-forward parts over the model dimension.
        norm_eps: of the layer norms, except the one over the input.
        dropout: after attention and after both layers of the feed-forward parts, in training.
        attention_dropout: of the attention probabilities, in training.
    """

    encoder: MaeSizes
    decoder: MaeSizes
    buffer_size: Positive = 64
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    norm_eps: Annotated[float, Field(gt=0)] = 1e-6
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.1

    def blocks(self, sizes: MaeSizes) -> nn.ModuleList:
        """The stack of one of the two."""
        return nn.ModuleList(
            TransformerBlock(
                sizes.dim,
                sizes.num_heads,
                mlp_dim=int(sizes.dim * self.mlp_ratio),
                eps=self.norm_eps,
                dropout=self.dropout,
                attention_dropout=self.attention_dropout,
            )
            for _ in range(sizes.depth)
        )


class MaeBackbone(nn.Module):
    """From the known positions of a sample to features of all.

    Args:
        config: sizes.
        channels: C of a position's values.
        length: L positions.
    """

    def __init__(self, config: MaeConfig, *, channels: int, length: int) -> None:
        super().__init__()
        self.config = config
        encoder, decoder, rows = config.encoder, config.decoder, config.buffer_size + length
        self.embed = nn.Linear(channels, encoder.dim)
        self.embed_norm = nn.LayerNorm(encoder.dim, eps=INPUT_EPS)
        self.encoder_positions = nn.Parameter(torch.empty(rows, encoder.dim))
        self.encoder_blocks = config.blocks(encoder)
        self.encoder_norm = nn.LayerNorm(encoder.dim, eps=config.norm_eps)
        self.decoder_embed = nn.Linear(encoder.dim, decoder.dim)
        self.mask_token = nn.Parameter(torch.empty(1, decoder.dim))
        self.decoder_positions = nn.Parameter(torch.empty(rows, decoder.dim))
        self.decoder_blocks = config.blocks(decoder)
        self.decoder_norm = nn.LayerNorm(decoder.dim, eps=config.norm_eps)
        self.output_positions = nn.Parameter(torch.empty(length, decoder.dim))
        for table in (self.encoder_positions, self.mask_token, self.decoder_positions, self.output_positions):
            nn.init.normal_(table, std=0.02)
        xavier_linears(self)

    def forward(self, values: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """Features (B, L, D') of every position.

        Args:
            values: (B, L, C); ignored at unknown positions.
            mask: (B, L) bool, True at unknown positions.
            condition: (B, D) embeddings.
        """
        kept, held = self.known_rows(mask)
        return self.decode(self.encode(values, kept, held, condition), kept, held)

    def at(self, positions: Tensor, values: Tensor, mask: Tensor, conditions: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Features (B, M, D') at positions (B, M) under each of some conditions (B, D), from one pass; see `forward`."""
        count = len(conditions)
        hidden = self(values.repeat(count, 1, 1), mask.repeat(count, 1), torch.cat(list(conditions)))
        return at_positions(hidden, positions.repeat(count, 1)).chunk(count)

    def known_rows(self, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """The rows that the encoder reads, buffer first, then the known positions in their order.

        Returns:
            (B, M) int64 rows of the B sequences [buffer | positions]; (B, M) bool, False at padding, or None where all samples know as many.
        """
        hidden = torch.cat([mask.new_zeros(len(mask), self.config.buffer_size), mask], dim=1)
        counts = (~hidden).sum(dim=1)
        most = int(counts.max())
        kept = hidden.to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
        if bool((counts == most).all()):
            return kept, None
        return kept, torch.arange(most, device=mask.device) < counts[:, None]

    def encode(self, values: Tensor, kept: Tensor, held: Tensor | None, condition: Tensor) -> Tensor:
        """Encoded rows (B, M, D) of those that `known_rows` names."""
        embedded = self.embed(values.to(self.embed.weight.dtype))
        x = torch.cat([condition[:, None].expand(-1, self.config.buffer_size, -1).to(embedded.dtype), embedded], dim=1)
        x = at_positions(self.embed_norm(x + self.encoder_positions), kept)
        mask = None if held is None else held[:, None, None]
        for block in self.encoder_blocks:
            x = block(x, mask)
        return self.encoder_norm(x)

    def decode(self, encoded: Tensor, kept: Tensor, held: Tensor | None) -> Tensor:
        """Features (B, L, D') from encoded rows (B, M, D)."""
        x = self.decoder_embed(encoded)
        mask_token = self.mask_token.to(x.dtype)
        if held is not None:
            x = torch.where(held[..., None], x, mask_token)
        x = mask_token.expand(len(x), len(self.decoder_positions), -1).scatter(1, kept[..., None].expand_as(x), x) + self.decoder_positions
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_norm(x)[:, self.config.buffer_size :] + self.output_positions
