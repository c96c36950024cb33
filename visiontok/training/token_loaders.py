"""Batches of tokens: from a stored set, or from images that a tokenizer encodes at every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import BatchPlan, TrainLoader
from visiontok.data.token_dataset import TokenDataset
from visiontok.signals import SignalBatch
from visiontok.tokens import Latents, Tokens


@dataclass(frozen=True, eq=False)
class LabelledTokens:
    """A process's share of a global batch.

    Attributes:
        tokens: B samples.
        labels: (B,) int64; None where samples have none.
        rows: the places of these samples in the global batch.
    """

    tokens: Tokens | Latents
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

    Attributes:
        layout: of the tokens of images of this size.

    Raises:
        ConfigError: if the tokenizer has no codebook.
    """

    def __init__(self, loader: TrainLoader, tokenizer: Tokenizer[Any], *, size: Sequence[int], rank: int) -> None:
        self.loader, self.tokenizer, self.rank = loader, tokenizer, rank
        self.layout = self._encode(SignalBatch.of(tokenizer.preprocessing.blank(size))).layout

    def batches(self, start: int) -> Iterator[LabelledTokens]:
        """The batches of steps start, start + 1, ... without end."""
        for batch in self.loader.batches(start):
            rows = range(self.rank * len(batch), (self.rank + 1) * len(batch))
            yield LabelledTokens(tokens=self._encode(batch.signals), labels=batch.labels, rows=rows)

    def _encode(self, images: SignalBatch) -> Tokens:
        tokens = self.tokenizer.encode(images)
        if not isinstance(tokens, Tokens):
            raise ConfigError("a generator of ids needs a tokenizer with a codebook; this one has continuous latents")
        return tokens
