"""Batches of tokens: from a stored set, or from images that a tokenizer encodes at every step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from torch import Tensor

from visiontok.data import BatchPlan, TrainLoader
from visiontok.data.token_dataset import TokenDataset
from visiontok.errors import ConfigError
from visiontok.tokenizer import Tokenizer
from visiontok.tokens import Tokens


@dataclass(frozen=True, eq=False)
class LabelledTokens:
    """A process's share of a global batch.

    Attributes:
        tokens: B samples.
        labels: (B,) int64; None where samples have none.
        rows: the places of these samples in the global batch.
    """

    tokens: Tokens
    labels: Tensor | None
    rows: range


class TokenSetLoader:
    """Share `rank` of `world_size` of every global batch of a stored set; samples are a function of (seed, step) alone."""

    def __init__(self, dataset: TokenDataset, *, batch_size: int, seed: int, rank: int, world_size: int) -> None:
        self.dataset = dataset
        self.plan = BatchPlan(len(dataset), batch_size, seed=seed)
        share = batch_size // world_size
        self.rows = range(rank * share, (rank + 1) * share)

    def batches(self, start: int) -> Iterator[LabelledTokens]:
        """The batches of steps start, start + 1, ... without end."""
        for step in count(start):
            slots = self.plan.slots(step)
            batch = self.dataset.batch(slots[row][1] for row in self.rows)
            yield LabelledTokens(tokens=batch.tokens, labels=batch.labels, rows=self.rows)


class EncodingLoader:
    """The batches of an image loader, encoded by a frozen tokenizer.

    Raises:
        ConfigError: if the tokenizer has no codebook.
    """

    def __init__(self, loader: TrainLoader, tokenizer: Tokenizer[Any], *, rank: int) -> None:
        if tokenizer.layout.is_continuous:
            raise ConfigError("a generator of ids needs a tokenizer with a codebook; this one has continuous latents")
        self.loader, self.tokenizer, self.rank = loader, tokenizer, rank

    def batches(self, start: int) -> Iterator[LabelledTokens]:
        """The batches of steps start, start + 1, ... without end."""
        for batch in self.loader.batches(start):
            tokens = self.tokenizer.encode(batch.images)
            assert isinstance(tokens, Tokens)
            yield LabelledTokens(tokens=tokens, labels=batch.labels, rows=range(self.rank * len(batch), (self.rank + 1) * len(batch)))
