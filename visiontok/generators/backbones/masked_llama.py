"""Llama-style blocks with full attention over a class and tokens; the backbone of ELM's masked generators (arXiv 2410.16257)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from visiontok.base.config import Probability
from visiontok.generators.backbones.llama import LlamaConfig, LlamaStack
from visiontok.layers.rope import grid_positions, rope_table


class MaskedLlamaConfig(LlamaConfig):
    """Sizes of `MaskedLlama`: those of its stack, and the following.

    Attributes:
        token_dropout: of the embedded sequence.
    """

    type: Literal["llama"] = "llama"
    token_dropout: Probability = 0.1

    def build(self, vocab_size: int, shape: tuple[int, ...]) -> MaskedLlama:
        """The network for a class and tokens of `shape`, out of a vocabulary of `vocab_size`."""
        return MaskedLlama(self, vocab_size, shape)


class MaskedLlama(nn.Module):
    """Indices (B, 1 + L), the class first -> (B, 1 + L, D). The class has a rotary row of zeros, tokens those of their position in `shape`."""

    def __init__(self, config: MaskedLlamaConfig, vocab_size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.embeddings = nn.Embedding(vocab_size, config.dim)
        self.dropout = nn.Dropout(config.token_dropout)
        self.stack = LlamaStack(config)

    def forward(self, indices: Tensor) -> Tensor:
        positions = grid_positions(self.shape).to(indices.device)
        rope = rope_table(positions, self.config.head_dim, base=self.config.rope_base, zero_rows=1)
        return self.stack(self.dropout(self.embeddings(indices)), rope=rope)
