"""A text encoder without a network: every word has its own random vector, unrelated to its meaning. It needs no download."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from visiontok.base.config import Config
from visiontok.encoders.text.base import TextEncoder


class HashedWordsConfig(Config):
    """Random word vectors, for tests, small experiments and machines without a network."""

    type: Literal["hashed_words"] = "hashed_words"

    def build(self, *, length: int, dim: int) -> HashedWords:
        """The encoder; there is nothing to load."""
        return HashedWords(length=length, dim=dim)


class HashedWords(TextEncoder):
    """The words' vectors in order, then zeros. A word's vector follows from its letters alone, on every machine; case is ignored.

    Equal words look equal and different ones different, which is what class names and captions from a template need. Synonyms share nothing.

    Args:
        length: T; words beyond it are not read.
        dim: channels E of a vector, drawn from the unit normal distribution.
    """

    def __init__(self, *, length: int, dim: int) -> None:
        self.length, self.dim = length, dim

    def __call__(self, texts: Sequence[str]) -> Tensor:
        embeddings = torch.zeros(len(texts), self.length, self.dim, dtype=torch.float32)
        for row, text in zip(embeddings, texts, strict=True):
            for index, word in enumerate(re.findall(r"\w+", text.lower())[: self.length]):
                row[index] = self._vector(word)
        return embeddings

    def _vector(self, word: str) -> Tensor:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big") >> 1
        return torch.randn(self.dim, dtype=torch.float32, generator=torch.Generator().manual_seed(seed))
