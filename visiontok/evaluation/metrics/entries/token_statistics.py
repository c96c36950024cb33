"""How language-like tokens are: Zipf's law, new codes per sample, prefix codes, n-grams (after Chan et al., arXiv 2411.05001)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import JsonValue

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.accumulator import Accumulator
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.code_sequences import CodeSequences, CodeSequenceTable
from visiontok.evaluation.metrics.entropy import plugin_entropy
from visiontok.evaluation.metrics.huffman import fixed_bits_per_token, huffman_bits_per_token, huffman_saving
from visiontok.evaluation.metrics.innovation import heaps_fit, innovation_curve, samples_to_share
from visiontok.evaluation.metrics.metric import Aggregate, EvaluatedBatch, StreamMetric, Subject, Value
from visiontok.evaluation.metrics.ngrams import bigram_conditional_entropy, bigram_mutual_information, first_digit_counts, ngram_counts
from visiontok.evaluation.metrics.zipf import LogLogFit, ZipfFit, approximate_count_exponent, count_exponent, log_log_fit, mandelbrot_fit, zipf_fit

SEED, LONGEST_NGRAM = 0, 4
_BENFORD = np.log10(1 + 1 / np.arange(1, 10))


def _accumulators(subject: Subject) -> dict[str, Accumulator]:
    assert subject.layout is not None
    return {"sequences": CodeSequenceTable(subject.layout)}


def _compute(accumulators: Mapping[str, Any], batch: EvaluatedBatch, subject: Subject) -> None:
    accumulators["sequences"].update(batch.indices, batch.token_indices)


def _aggregate(accumulators: Mapping[str, Any], subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    parts: list[CodeSequences] = accumulators["sequences"].compute()
    return [aggregate for part in parts for aggregate in _statistics(part, None if len(parts) == 1 else part.name)]


def _statistics(sequences: CodeSequences, part: str | None) -> list[Aggregate]:
    rows, vocab_size = sequences.rows, sequences.vocab_size
    counts = np.bincount(np.concatenate(rows), minlength=vocab_size)
    used = int((counts > 0).sum())
    known: dict[str, JsonValue] = {"vocab_size": vocab_size, "tokens": int(counts.sum()), "used_codes": used}

    def aggregate(name: str, value: float | None, protocol: str, details: Mapping[str, JsonValue] | None = None, why: str = "") -> Aggregate:
        return Aggregate(
            key=f"tokens.{name}",
            part=part,
            value=value,
            no_value=why,
            count=len(rows),
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
        *_growth(rows, aggregate),
    ]
    return [*found, *_ngrams(rows, aggregate)] if max(map(len, rows)) > 1 else found


def _growth(rows: Sequence[np.ndarray], aggregate: Callable[..., Aggregate]) -> list[Aggregate]:
    """How the codes seen grow with the samples."""
    curve, order = innovation_curve(rows), "samples in the order of the data set"
    words = f"samples until 90 % of the codes ever seen had appeared; {order}"
    appeared = aggregate("samples_to_90_percent", samples_to_share(curve, 0.9), words, {"to_half": samples_to_share(curve, 0.5)})
    protocol = f"least squares of log distinct codes on log tokens; {order}"
    if len(rows) < 2:
        return [appeared, aggregate("heaps_exponent", None, protocol, why="one sample makes no line")]
    factor, exponent = heaps_fit(curve, tokens_per_sample=list(map(len, rows)))
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


def _ngrams(rows: Sequence[np.ndarray], aggregate: Callable[..., Aggregate]) -> list[Aggregate]:
    lengths = list(map(len, rows))
    shuffled = np.split(np.random.default_rng(SEED).permuted(np.concatenate(rows)), np.cumsum(lengths)[:-1])
    grams = {length: ngram_counts(rows, length) for length in range(1, min(LONGEST_NGRAM, max(lengths)) + 1)}
    return [
        aggregate(
            "bigram_entropy",
            bigram_conditional_entropy(rows),
            "entropy of a token given the one before it in storage order; low by itself where pairs are few, as the shuffled tokens show",
            {"of_shuffled_tokens": bigram_conditional_entropy(shuffled)},
        ),
        aggregate(
            "bigram_information",
            bigram_mutual_information(rows) / float(np.log(2)),
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


TOKEN_STATISTICS = StreamMetric(
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
    needs=("tokens",),
    accumulators=_accumulators,
    compute=_compute,
    aggregate=_aggregate,
    absent="no sample holds a token",
)
"""Of each codebook of each segment, over the samples that hold codes of it, whatever their numbers; keeps all tokens, 8 bytes each."""
