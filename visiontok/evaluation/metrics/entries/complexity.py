"""Adaptive tokenizers: does the number of tokens correlate with the number of objects in a sample, and with the number that a search finds?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from visiontok.core.quality import shortest_lengths
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, bootstrap_mean
from visiontok.evaluation.metrics.metric import Aggregate, EvaluatedBatch, SampleMetric, Subject, Table, Value
from visiontok.tokens import Latents, Tokens

_UNKNOWN = -1
_SEARCH = "a search by bisection for the fewest tokens that lose no more"


def _why_not(subject: Subject) -> str | None:
    tokenizer, layout = subject.tokenizer, subject.layout
    if tokenizer is None or layout is None or not layout.ragged or layout.is_continuous:
        return "the tokenizer does not choose the number of tokens by the sample"
    if len(tokenizer.lengths_supported) < 2:
        return "no other number of tokens can be requested, so there is nothing to search"
    return None


@torch.no_grad()
def _compute(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
    """The search asks for the fewest tokens that lose no more of a sample (mean absolute error) than the tokenizer's own ones.

    It bisects `lengths_supported`, and encodes and decodes again at every length that it tries.
    """
    tokenizer = subject.tokenizer
    assert tokenizer is not None
    assert batch.reference is not None
    tokens, values = batch.token_indices, batch.reference.values

    def lost(candidate: Tokens | Latents) -> Tensor:
        """(B,) sums of absolute errors, of images in integer 8-bit levels, so that equal losses compare as equal."""
        decoded = tokenizer.decode(candidate)
        if subject.is_8bit:
            return (values.long() - to_uint8(decoded.float()).cpu().long()).abs().flatten(1).sum(dim=1)
        return (values.double() - decoded.double().cpu()).abs().flatten(1).sum(dim=1)

    passes, accepted = 1, lost(tokens)  # the last pass encodes at the length that was found

    def reached(lengths: Tensor) -> Tensor:
        nonlocal passes
        passes += 2
        return lost(tokenizer.encode(values, num_tokens=lengths)) <= accepted

    searched = shortest_lengths(reached, tokenizer.lengths_supported, batch=len(accepted))
    objects = torch.full_like(searched, _UNKNOWN) if batch.objects is None else batch.objects
    return {"tokens": tokens.sample_lengths, "searched": searched, "objects": objects, "passes": torch.full_like(searched, passes)}


def _aggregate(table: Table, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    tokens, searched = table["tokens"].astype(np.float64), table["searched"].astype(np.float64)
    known = table["objects"] != _UNKNOWN
    gap, passes = tokens - searched, float(table["passes"].mean())
    return [
        Aggregate(
            key="complexity.objects",
            no_value=_unordered(tokens[known], table["objects"][known]),
            value=_rank_correlation(tokens[known], table["objects"][known]),
            count=int(known.sum()),
            no_interval="a rank correlation over all samples",
            protocol="Spearman's rank correlation of the tokens and the objects of a sample",
            details={str(count): float(tokens[table["objects"] == count].mean()) for count in np.unique(table["objects"][known])},
        ),
        Aggregate(
            key="complexity.search",
            no_value=_unordered(tokens, searched),
            value=_rank_correlation(tokens, searched),
            count=len(tokens),
            no_interval="a rank correlation over all samples",
            protocol=f"Spearman's rank correlation of a sample's tokens and those of {_SEARCH}",
        ),
        Aggregate(
            key="complexity.beyond_search",
            value=float(gap.mean()),
            count=len(gap),
            interval=bootstrap_mean(gap, bootstrap) if np.ptp(gap) else None,
            protocol=f"tokens of a sample minus those of {_SEARCH}, mean over samples",
            details={"absolute": float(np.abs(gap).mean())},
            per_sample=gap,
        ),
        Aggregate(
            key="complexity.cost",
            value=1 / passes,
            count=len(gap),
            no_interval="a count of passes",
            protocol=f"one encoding over all encodings and decodings of {_SEARCH}",
            details={"passes": passes},
        ),
    ]


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    return None if _unordered(first, second) else float(spearmanr(first, second).statistic)


def _unordered(first: np.ndarray, second: np.ndarray) -> str:
    """Why there is no order; empty where there is."""
    if len(first) < 2:
        return f"{len(first)} samples have no order"
    return "" if np.ptp(first) and np.ptp(second) else "one of the two numbers is the same for all samples"


COMPLEXITY = SampleMetric(
    name="complexity",
    values={
        "complexity.objects": Value("Rank correlation of tokens and objects", better="higher"),
        "complexity.search": Value("Rank correlation with a search", better="higher"),
        "complexity.beyond_search": Value("Tokens beyond a search", better="lower"),
        "complexity.cost": Value("Cost beside a search", better="lower"),
    },
    needs=("tokens", "decoder"),
    unavailable=_why_not,
    compute=_compute,
    aggregate=_aggregate,
)
