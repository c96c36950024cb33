"""How language-like tokens are: Zipf's law, new codes per sample, prefix codes, n-grams (after Chan et al., arXiv 2411.05001)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from pydantic import JsonValue
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.entropy import plugin_entropy
from visiontok.evaluation.metrics.huffman import fixed_bits_per_token, huffman_bits_per_token, huffman_saving
from visiontok.evaluation.metrics.innovation import heaps_fit, innovation_curve, samples_to_share
from visiontok.evaluation.metrics.metric import Aggregate, EvaluatedBatch, SampleMetric, Subject, Table, Value
from visiontok.evaluation.metrics.ngrams import bigram_conditional_entropy, bigram_mutual_information, first_digit_counts, ngram_counts
from visiontok.evaluation.metrics.zipf import LogLogFit, ZipfFit, approximate_count_exponent, count_exponent, log_log_fit, mandelbrot_fit, zipf_fit

SEED, LONGEST_NGRAM = 0, 4
_BENFORD = np.log10(1 + 1 / np.arange(1, 10))


def _compute(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
    return {"tokens": batch.token_indices.indices}


def _aggregate(table: Table, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    parts = list(_parts(table["tokens"], subject))
    return [aggregate for name, tokens, size in parts for aggregate in _statistics(tokens, size, None if len(parts) == 1 else name)]


def _parts(tokens: np.ndarray, subject: Subject) -> Iterator[tuple[str, np.ndarray, int]]:
    """Name, (N, positions) tokens and K of each codebook of each segment that is not empty."""
    assert subject.layout is not None
    for segment in subject.layout.segments:
        held = tokens[:, subject.layout.slice(segment.name)]
        for codebook, size in enumerate(segment.vocab_sizes):
            column = held[:, codebook :: segment.codebooks]
            if column.shape[1]:
                yield segment.name if segment.codebooks == 1 else f"{segment.name}[{codebook}]", column, size


def _statistics(tokens: np.ndarray, vocab_size: int, part: str | None) -> list[Aggregate]:
    counts = np.bincount(tokens.ravel(), minlength=vocab_size)
    length, used = tokens.shape[1], int((counts > 0).sum())
    known: dict[str, JsonValue] = {"vocab_size": vocab_size, "tokens": tokens.size, "used_codes": used}

    def aggregate(name: str, value: float | None, protocol: str, details: Mapping[str, JsonValue] | None = None, why: str = "") -> Aggregate:
        return Aggregate(
            key=f"tokens.{name}",
            part=part,
            value=value,
            no_value=why,
            count=len(tokens),
            protocol=protocol,
            details={**known, **(details or {})},
        )

    stored = fixed_bits_per_token(vocab_size)
    found = [
        aggregate("huffman_bits", huffman_bits_per_token(counts), "mean length of a token in the optimal prefix code, its table not counted"),
        aggregate(
            "huffman_saving",
            huffman_saving(counts, bits_per_token=float(np.log2(vocab_size))),
            "share of log2 K that the optimal prefix code saves",
            {"of_stored_bits": huffman_saving(counts, bits_per_token=stored), "stored_bits": stored},
        ),
        aggregate("benford_distance", _benford_distance(counts), "largest gap to Benford's law of the first digits of the codes' counts"),
        *_zipf(counts, aggregate),
        *_growth(tokens, aggregate),
    ]
    return [*found, *_ngrams(tokens, aggregate)] if length > 1 else found


def _growth(tokens: np.ndarray, aggregate: Callable[..., Aggregate]) -> list[Aggregate]:
    """How the codes seen grow with the samples."""
    curve, order = innovation_curve(tokens), "samples in the order of the data set"
    words = f"samples until 90 % of the codes ever seen had appeared; {order}"
    appeared = aggregate("samples_to_90_percent", samples_to_share(curve, 0.9), words, {"to_half": samples_to_share(curve, 0.5)})
    protocol = f"least squares of log distinct codes on log tokens; {order}"
    if len(tokens) < 2:
        return [appeared, aggregate("heaps_exponent", None, protocol, why="one sample makes no line")]
    factor, exponent = heaps_fit(curve, tokens_per_sample=tokens.shape[1])
    return [appeared, aggregate("heaps_exponent", exponent, protocol, {"factor": factor})]


def _zipf(counts: np.ndarray, aggregate: Callable[..., Aggregate]) -> list[Aggregate]:
    """Each law by itself: where codes are few or all equally frequent, its likelihood may have no maximum."""
    over = "over the codes observed"
    laws: tuple[tuple[str, str, Callable[[], tuple[float, dict[str, JsonValue]]]], ...] = (
        ("zipf_exponent", f"maximum likelihood of p(rank) ~ rank^-s {over}", lambda: _exponent(zipf_fit(counts), "max_cdf_gap")),
        ("zipf_exponent.log_log", f"least squares of ln frequency on ln rank {over}; biased", lambda: _exponent(log_log_fit(counts), "r_squared")),
        ("mandelbrot_exponent", f"maximum likelihood of p(rank) ~ (rank + q)^-s {over}", lambda: _exponent(mandelbrot_fit(counts), "shift")),
        (
            "count_exponent",
            f"maximum likelihood of P(count) ~ count^-alpha {over}",
            lambda: (count_exponent(counts), {"clauset_approximation": approximate_count_exponent(counts)}),
        ),
    )
    found = []
    for name, protocol, law in laws:
        try:
            exponent, details = law()
        except EvaluationError as error:
            found.append(aggregate(name, None, protocol, why=str(error)))
        else:
            found.append(aggregate(name, exponent, protocol, details))
    return found


def _exponent(fit: ZipfFit | LogLogFit, detail: str) -> tuple[float, dict[str, JsonValue]]:
    return fit.exponent, {detail: getattr(fit, detail)}


def _ngrams(tokens: np.ndarray, aggregate: Callable[..., Aggregate]) -> list[Aggregate]:
    shuffled = np.random.default_rng(SEED).permuted(tokens.ravel()).reshape(tokens.shape)
    grams = {length: ngram_counts(tokens, length) for length in range(1, min(LONGEST_NGRAM, tokens.shape[1]) + 1)}
    return [
        aggregate(
            "bigram_entropy",
            bigram_conditional_entropy(tokens),
            "entropy of a token given the one before it in storage order; low by itself where pairs are few, as the shuffled tokens show",
            {"of_shuffled_tokens": bigram_conditional_entropy(shuffled)},
        ),
        aggregate(
            "bigram_information",
            bigram_mutual_information(tokens) / float(np.log(2)),
            "mutual information of neighbors in storage order; high by itself where pairs are few, as the shuffled tokens show",
            {
                "of_shuffled_tokens": bigram_mutual_information(shuffled) / float(np.log(2)),
                "ngram_types": {str(length): len(each) for length, each in grams.items()},
                "ngram_entropy_bits": {str(length): plugin_entropy(each) for length, each in grams.items()},
            },
        ),
    ]


def _benford_distance(counts: np.ndarray) -> float:
    digits = first_digit_counts(counts)
    return float(np.abs(digits / digits.sum() - _BENFORD).max())


TOKEN_STATISTICS = SampleMetric(
    name="token_statistics",
    values={
        "tokens.huffman_bits": Value("Bits per token in the optimal prefix code", unit="bits"),
        "tokens.huffman_saving": Value("Saving of the optimal prefix code"),
        "tokens.benford_distance": Value("Distance from Benford's law"),
        "tokens.zipf_exponent": Value("Zipf exponent"),
        "tokens.zipf_exponent.log_log": Value("Zipf exponent by least squares"),
        "tokens.mandelbrot_exponent": Value("Zipf-Mandelbrot exponent"),
        "tokens.count_exponent": Value("Exponent of the codes' counts"),
        "tokens.samples_to_90_percent": Value("Samples until 90 % of the codes appeared", unit="samples"),
        "tokens.heaps_exponent": Value("Heaps exponent"),
        "tokens.bigram_entropy": Value("Entropy of a token given its neighbor", unit="bits"),
        "tokens.bigram_information": Value("Mutual information of neighbors", unit="bits"),
    },
    needs=("tokens", "fixed length"),
    compute=_compute,
    aggregate=_aggregate,
)
"""Of each codebook of each segment; keeps all tokens, 8 L bytes per sample."""
