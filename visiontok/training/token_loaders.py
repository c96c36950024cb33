"""Batches of tokens: from a stored set, or from signals that a tokenizer encodes at every step."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from visiontok.core.tokenizer import Tokenizer
from visiontok.data import BatchPlan, DataBatch, TrainLoader
from visiontok.data.holdout import Remaining
from visiontok.data.prefetch import prefetch
from visiontok.data.token_dataset import TokenBatch, TokenDataset
from visiontok.signals import SignalBatch
from visiontok.tokens import Latents, Tokens
from visiontok.training.texts import EmbeddedTexts


@dataclass(frozen=True, eq=False)
class ConditionedTokens:
    """A process's share of a global batch.

    Attributes:
        tokens: B samples.
        labels: (B,) int64; None where samples have none.
        text: (B, T, E) embeddings; None where the generator reads none.
        rows: the indices of these samples in the global batch.
    """

    tokens: Tokens | Latents
    labels: Tensor | None
    text: Tensor | None
    rows: range


class TokenSetLoader:
    """Share `rank` of `world_size` of every global batch of a stored set; samples are a function of (seed, step) alone.

    Sets that fit in one window of their blocks are permuted as a whole, larger ones as `Blocks` says.

    Args:
        dataset: the set.
        samples: the rows of the set that are used.
        batch_size: samples per step, over all processes.
        seed: of the order.
        rank, world_size: of this process, and how many there are.
        num_workers: processes that prepare batches; 0 prepares them in this one.
        texts: what the generator is conditioned on.
    """

    def __init__(
        self,
        dataset: TokenDataset,
        *,
        samples: Remaining,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        num_workers: int = 0,
        texts: EmbeddedTexts | None = None,
    ) -> None:
        self.dataset, self.samples, self.num_workers, self.texts = dataset, samples, num_workers, texts
        blocks = None if dataset.blocks.is_one_window else dataset.blocks.without(samples.without)
        self.plan = BatchPlan(len(samples), batch_size, seed=seed, blocks=blocks)
        share = batch_size // world_size
        self.rows = range(rank * share, (rank + 1) * share)

    def batches(self, start: int) -> Iterator[ConditionedTokens]:
        """The batches of steps start, start + 1, ... without end."""
        for batch in prefetch(self._read, range(start, sys.maxsize), num_workers=self.num_workers):
            yield conditioned(batch, self.rows, self.texts)

    def _read(self, step: int) -> TokenBatch:
        slots = self.plan.slots(step)[self.rows.start : self.rows.stop]
        return self.dataset.batch(self.samples[np.asarray([index for _, index in slots], dtype=np.int64)].tolist())


def conditioned(batch: TokenBatch, rows: range, texts: EmbeddedTexts | None) -> ConditionedTokens:
    """A batch of a stored set with its texts, which holds these rows of a whole."""
    return ConditionedTokens(tokens=batch.tokens, labels=batch.labels, text=None if texts is None else texts.of_tokens(batch), rows=rows)


class EncodingLoader:
    """The batches of a loader of signals, encoded by a frozen tokenizer.

    Attributes:
        layout: of the tokens of signals of the loader's size.
    """

    def __init__(
        self,
        loader: TrainLoader,
        tokenizer: Tokenizer[Any],
        *,
        size: tuple[int, ...] | None,
        rank: int,
        encoder_texts: EmbeddedTexts | None = None,
        texts: EmbeddedTexts | None = None,
    ) -> None:
        """Encode what the loader gives.

        Args:
            loader: of the signals.
            tokenizer: frozen.
            size: of the signals; None for the tokenizer's usual size.
            rank: of this process.
            encoder_texts: what the tokenizer's encoder reads beside them.
            texts: what the generator is conditioned on.
        """
        self.loader, self.tokenizer, self.rank = loader, tokenizer, rank
        self.encoder_texts, self.texts = encoder_texts, texts
        blank = SignalBatch.of(tokenizer.preprocessing.blank(size))
        text = "" if tokenizer.encoder_reads_text else None
        self.layout = tokenizer.encode(blank, text=text).layout

    def batches(self, start: int) -> Iterator[ConditionedTokens]:
        """The batches of steps start, start + 1, ... without end."""
        for batch in self.loader.batches(start):
            yield self.encoded(batch, range(self.rank * len(batch), (self.rank + 1) * len(batch)))

    def encoded(self, batch: DataBatch, rows: range) -> ConditionedTokens:
        """The tokens of a batch, which holds these rows of a whole."""
        text = None if self.encoder_texts is None else self.encoder_texts.of(batch)
        embedded = None if self.texts is None else self.texts.of(batch)
        return ConditionedTokens(tokens=self.tokenizer.encode(batch.signals, text=text), labels=batch.labels, text=embedded, rows=rows)
