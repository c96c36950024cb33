"""Heads of masked generators: from a backbone's output at every position to logits over one codebook, given the backbone's table of codes."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config


class LinearMaskedHeadConfig(Config):
    """A linear map of its own."""

    type: Literal["linear"] = "linear"

    def build(self, dim: int, vocab_size: int) -> LinearMaskedHead:
        """For outputs of `dim`."""
        return LinearMaskedHead(dim, vocab_size)


class TiedMaskedHeadConfig(Config):
    """The head of BERT and of ELM's masked generators: a dense layer, then the table of codes."""

    type: Literal["tied"] = "tied"

    def build(self, dim: int, vocab_size: int) -> TiedMaskedHead:
        """For outputs of `dim`."""
        return TiedMaskedHead(dim, vocab_size)


MaskedHeadConfig = Annotated[LinearMaskedHeadConfig | TiedMaskedHeadConfig, Field(discriminator="type")]
"""One of the heads, for a field of a configuration."""


class LinearMaskedHead(nn.Linear):
    """Hidden (B, L, D) -> logits (B, L, V), with weights of its own."""

    def forward(self, hidden: Tensor, table: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(hidden)


class TiedMaskedHead(nn.Module):
    """Hidden (B, L, D) -> logits (B, L, V) by a dense layer, an exact GELU, a layer norm and the embeddings of the codes (V, D).

    The embeddings get no gradient from here: they learn as inputs only (ELM).

    Args:
        dim: D.
        vocab_size: V.
    """

    def __init__(self, dim: int, vocab_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden: Tensor, table: Tensor) -> Tensor:
        return F.linear(self.norm(F.gelu(self.dense(hidden))), table.detach(), self.bias)
