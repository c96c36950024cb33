"""How language-like the ids are, in a suite: Zipf's law, new ids per picture, prefix codes, neighbours (after Chan et al., arXiv 2411.05001)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import JsonValue

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.entries.base import Batch, Measure
from visiontok.evaluation.metrics.huffman import huffman_bits_per_token, huffman_saving
from visiontok.evaluation.metrics.innovation import heaps_fit, images_to_share, innovation_curve
from visiontok.evaluation.metrics.ngrams import bigram_conditional_entropy
from visiontok.evaluation.metrics.per_sample import PerImage
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.evaluation.metrics.zipf import zipf_fit
from visiontok.tokens import TokenLayout, Tokens

SEED = 0


class TokenStatisticsMeasure(Measure):
    """Statistics of each codebook of each segment; keeps all ids, 8 L bytes per picture. For layouts whose samples are full."""

    def __init__(self, layout: TokenLayout) -> None:
        self._layout, self._table = layout, PerImage()
        super().__init__(images=self._table)

    def update(self, batch: Batch) -> None:
        tokens = batch.tokens
        if not isinstance(tokens, Tokens) or tokens.positions is not None or (tokens.sample_lengths < tokens.indices.shape[1]).any():
            raise EvaluationError("token_statistics need as many ids from every picture; leave them out for ids of varying number")
        self._table.update(batch.numbers, ids=tokens.indices)

    def values(self, bootstrap: BootstrapConfig) -> list[MetricValue]:
        parts = list(self._parts(self._table.compute()["ids"]))
        return [value for name, ids, size in parts for value in _statistics(ids, size, None if len(parts) == 1 else name)]

    def _parts(self, ids: np.ndarray) -> Iterator[tuple[str, np.ndarray, int]]:
        """Name, (N, positions) ids and K of each codebook of each segment of which samples hold anything."""
        for segment in self._layout.segments:
            held = ids[:, self._layout.slice(segment.name)]
            for codebook, size in enumerate(segment.vocab_sizes):
                column = held[:, codebook :: segment.codebooks]
                if column.shape[1]:
                    yield segment.name if segment.codebooks == 1 else f"{segment.name}[{codebook}]", column, size


def _statistics(ids: np.ndarray, vocab_size: int, part: str | None) -> list[MetricValue]:
    counts = np.bincount(ids.ravel(), minlength=vocab_size)
    length, used = ids.shape[1], int((counts > 0).sum())
    nominal = float(np.log2(vocab_size))

    def value(name: str, number: float, unit: str, protocol: str, **details: JsonValue) -> MetricValue:
        return MetricValue(
            name=f"tokens.{name}",
            part=part,
            value=number,
            unit=unit,
            count=len(ids),
            protocol=protocol,
            details={"vocab_size": vocab_size, "tokens": ids.size, "used_codes": used, **details},
        )

    values = [
        value(
            "huffman_bits",
            huffman_bits_per_token(counts),
            "bits",
            "mean length of an id in the optimal prefix code of all ids, its table not counted",
        ),
        value("huffman_saving", huffman_saving(counts, bits_per_token=nominal), "", "share of log2 K that the optimal prefix code saves"),
    ]
    if used > 1:
        fit = zipf_fit(counts)
        how = "maximum likelihood of p(rank) ~ rank^-s over the ids observed"
        values.append(value("zipf_exponent", fit.exponent, "", how, max_cdf_gap=fit.max_cdf_gap))
    if len(ids) > 1:
        curve = innovation_curve(ids)
        order = "pictures in the order of the data set"
        values.append(value("images_to_90_percent", images_to_share(curve, 0.9), "images", f"until 90 % of the ids ever seen had appeared; {order}"))
        values.append(
            value("heaps_exponent", heaps_fit(curve, tokens_per_image=length)[1], "", f"least squares of log distinct ids on log ids; {order}")
        )
    if length > 1:
        shuffled = np.random.default_rng(SEED).permuted(ids.ravel()).reshape(ids.shape)
        values.append(
            value(
                "bigram_entropy",
                bigram_conditional_entropy(ids),
                "bits",
                "entropy of an id given the one before it in storage order; low by itself where pairs are few, as the shuffled ids show",
                of_shuffled_ids=bigram_conditional_entropy(shuffled),
            )
        )
    return values
