"""Adaptive tokenizers: does the number of tokens follow what there is in a picture, and what a search would have found?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from visiontok.core.quality import shortest_lengths
from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, bootstrap_mean
from visiontok.evaluation.metrics.entries.base import Batch, Measure
from visiontok.evaluation.metrics.per_sample import PerImage
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.tokens import Latents, TokenLayout, Tokens

_UNKNOWN = -1


class ComplexityMeasure(Measure):
    """A tokenizer's own counts against numbers of objects, where the data knows them, and against the counts that a search finds.

    The search asks for the fewest tokens that lose no more of an image (mean absolute error) than the tokenizer's own ones, by bisection over
    `lengths_supported`: it encodes and decodes again at every length that it tries.

    Args:
        tokenizer: in evaluation mode; the search encodes with it.
    """

    def __init__(self, tokenizer: Tokenizer[Any]) -> None:
        self._tokenizer, self._table = tokenizer, PerImage()
        super().__init__(images=self._table)

    @torch.no_grad()
    def update(self, batch: Batch) -> None:
        assert isinstance(batch.tokens, Tokens)  # `why_no_complexity` has seen the layout
        lost, passes = self._lost(batch.reference, batch.tokens), 1  # the last one encodes at the length that was found

        def reached(lengths: Tensor) -> Tensor:
            nonlocal passes
            passes += 2
            return self._lost(batch.reference, self._tokenizer.encode(batch.reference, num_tokens=lengths)) <= lost

        searched = shortest_lengths(reached, self._tokenizer.lengths_supported, batch=len(lost))
        objects = torch.full_like(searched, _UNKNOWN) if batch.objects is None else batch.objects
        self._table.update(
            batch.numbers, tokens=batch.tokens.sample_lengths, searched=searched, objects=objects, passes=torch.full_like(searched, passes)
        )

    def _lost(self, images: Tensor, tokens: Tokens | Latents) -> Tensor:
        """(B,) what tokens lose of uint8 images: sums of absolute errors in whole levels, so that equal losses are equal numbers."""
        reconstruction = to_uint8(self._tokenizer.decode(tokens).float()).cpu()
        return (images.long() - reconstruction.long()).abs().flatten(1).sum(dim=1)

    def values(self, bootstrap: BootstrapConfig) -> list[MetricValue]:
        table = self._table.compute()
        tokens, searched = table["tokens"].astype(np.float64), table["searched"].astype(np.float64)
        known = table["objects"] != _UNKNOWN
        gap, passes = tokens - searched, float(table["passes"].mean())
        search = "a search by bisection for the fewest tokens that lose no more"
        return [
            MetricValue(
                name="complexity.objects",
                value=_rank_correlation(tokens[known], table["objects"][known]),
                better="higher",
                count=int(known.sum()),
                no_interval="a rank correlation over all images",
                protocol="Spearman's rank correlation of the tokens and the objects of an image",
                details={str(count): float(tokens[table["objects"] == count].mean()) for count in np.unique(table["objects"][known])},
            ),
            MetricValue(
                name="complexity.search",
                value=_rank_correlation(tokens, searched),
                better="higher",
                count=len(tokens),
                no_interval="a rank correlation over all images",
                protocol=f"Spearman's rank correlation of an image's tokens and those of {search}",
            ),
            MetricValue(
                name="complexity.beyond_search",
                value=float(gap.mean()),
                better="lower",
                count=len(gap),
                interval=bootstrap_mean(gap, bootstrap) if np.ptp(gap) else None,
                protocol=f"tokens of an image minus those of {search}, mean over images",
                details={"absolute": float(np.abs(gap).mean())},
            ),
            MetricValue(
                name="complexity.cost",
                value=1 / passes,
                better="lower",
                count=len(gap),
                no_interval="a count of passes",
                protocol=f"one encoding over all encodings and decodings of {search}",
                details={"passes": passes},
            ),
        ]

    def per_image(self) -> dict[str, np.ndarray]:
        table = self._table.compute()
        return {"complexity.beyond_search": (table["tokens"] - table["searched"]).astype(np.float64)}


def why_no_complexity(tokenizer: Tokenizer[Any] | None, layout: TokenLayout) -> str | None:
    """Why a tokenizer's counts say nothing; None where they do."""
    if tokenizer is None or not layout.ragged or layout.is_continuous:
        return "the tokenizer does not choose the number of ids by the picture"
    if len(tokenizer.lengths_supported) < 2:
        return "no other number of tokens can be asked for, so there is nothing to search"
    return None


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """None where one side does not vary: nothing is ordered then."""
    if len(first) < 2 or not np.ptp(first) or not np.ptp(second):
        return None
    return float(spearmanr(first, second).statistic)
