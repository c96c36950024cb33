"""The cost of tokens: nominal bits, bits at their entropy, bits under an autoregressive prior; per token, sample, pixel and second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from visiontok.evaluation.metrics.accumulator import Accumulator
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, bootstrap_mean
from visiontok.evaluation.metrics.code_counts import CodeCounts, CodeUse
from visiontok.evaluation.metrics.codebook import divergence_from_uniform, gini, perplexity, usage
from visiontok.evaluation.metrics.entropy import (
    LN2,
    chao_shen_entropy,
    chao_wang_jost_entropy,
    grassberger_entropy,
    miller_madow_entropy,
    plugin_entropy,
    shrink_entropy,
    zhang_entropy,
)
from visiontok.evaluation.metrics.information_capacity import information_capacity_style
from visiontok.evaluation.metrics.metric import Aggregate, EvaluatedBatch, SampleMetric, StreamMetric, Subject, Table, Value
from visiontok.evaluation.metrics.per_sample import PerSample
from visiontok.evaluation.metrics.prior import prior_information
from visiontok.evaluation.metrics.rates import compression_ratio, entropy_bits, per_pixel, per_second
from visiontok.generators.condition import ClassCondition, ConditionLike, NoCondition
from visiontok.tokens import Tokens

SCOPE, NO_TOKENS, NO_BITS = "over all tokens of the samples evaluated", "no sample holds a token", "the tokens have no nominal bits"


def _costs(variant: str, bits: np.ndarray, table: Table, subject: Subject, bootstrap: BootstrapConfig, protocol: str) -> list[Aggregate]:
    """Bits (N,) per sample, per token, per pixel and per second, where defined."""
    found = [_mean(f"bits_per_sample.{variant}", bits, bootstrap, f"{protocol}, mean over samples")]
    tokens = int(table["tokens"].sum())
    ratio = Aggregate(
        key=f"bits_per_token.{variant}",
        value=float(bits.sum() / tokens) if tokens else None,
        no_value="" if tokens else NO_TOKENS,
        count=len(bits),
        protocol=f"{protocol}, all bits over all tokens",
        no_interval="a ratio of two sums",
    )
    found.append(ratio)
    if subject.spec.modality in ("image", "video"):
        column = per_pixel(bits, table["size"])
        found.append(_mean(f"bits_per_pixel.{variant}", column, bootstrap, f"{protocol}, over its pixels, mean over samples"))
    if subject.spec.rate is not None:
        column = per_second(bits, units=table["size"][:, 0], rate=subject.spec.rate)
        found.append(_mean(f"bits_per_second.{variant}", column, bootstrap, f"{protocol}, over its seconds, mean over samples"))
    return found


def _mean(key: str, column: np.ndarray, bootstrap: BootstrapConfig, protocol: str) -> Aggregate:
    return Aggregate(
        key=key,
        value=float(column.mean()),
        count=len(column),
        interval=bootstrap_mean(column, bootstrap) if np.ptp(column) else None,  # a fixed length has nothing to resample
        protocol=protocol,
        details={"min": float(column.min()), "max": float(column.max())},
        per_sample=column,
    )


def _values(variant: str, words: str) -> dict[str, Value]:
    return {
        f"bits_per_{unit}.{variant}": Value(f"Bits per {unit}, {words}", unit="bits", better="lower")
        for unit in ("sample", "token", "pixel", "second")
    }


# Nominal bits.


def _size_of(batch: EvaluatedBatch) -> dict[str, Tensor]:
    assert batch.reference is not None
    return {"tokens": batch.token_indices.sample_lengths, "size": batch.reference.sizes}


def _compute_rate(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
    tokens = batch.token_indices
    read = tokens.sample_lengths if subject.tokenizer is None else subject.tokenizer.tokens_read(tokens)
    return {**_size_of(batch), "bits": tokens.bits, "read": read}


def _aggregate_rate(table: Table, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    tokens = _mean("tokens_per_sample", table["tokens"].astype(np.float64), bootstrap, "tokens that a sample is stored as, mean over samples")
    found = [tokens, *_token_rates(table, subject, bootstrap)]
    found += _costs("nominal", table["bits"], table, subject, bootstrap, "sum of log2 K over a sample's tokens")
    if (table["read"] != table["tokens"]).any():
        found.append(
            _mean("tokens_read_per_sample", table["read"].astype(np.float64), bootstrap, "tokens that a language model reads, mean over samples")
        )
    if subject.is_8bit:
        bits = table["bits"].mean()
        found.append(
            Aggregate(
                key="compression_ratio",
                value=float(compression_ratio(bits, table["size"].mean(axis=0))) if bits else None,
                no_value="" if bits else NO_BITS,
                count=len(table["bits"]),
                protocol="24 bits per pixel over nominal bits per pixel",
                no_interval="a ratio of two sums",
            )
        )
    return found


def _token_rates(table: Table, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    """Tokens per second of sound and clips, and per pixel of clips, where defined."""
    found = []
    if subject.spec.rate is not None:
        column = per_second(table["tokens"], units=table["size"][:, 0], rate=subject.spec.rate)
        found.append(_mean("tokens_per_second", column, bootstrap, "tokens of a sample over its seconds, mean over samples"))
    if subject.spec.modality == "video":
        column = per_pixel(table["tokens"], table["size"])
        found.append(_mean("tokens_per_pixel", column, bootstrap, "tokens of a clip over the pixels of all its frames, mean over clips"))
    return found


RATE = SampleMetric(
    name="rate",
    values={
        "tokens_per_sample": Value("Tokens per sample", better="lower"),
        "tokens_read_per_sample": Value("Tokens per sample that a language model reads", better="lower"),
        "tokens_per_second": Value("Tokens per second", better="lower"),
        "tokens_per_pixel": Value("Tokens per pixel", better="lower"),
        **_values("nominal", "nominal"),
        "compression_ratio": Value("Compression ratio to 24-bit RGB", better="higher"),
    },
    needs=("tokens",),
    compute=_compute_rate,
    aggregate=_aggregate_rate,
)


# How codebooks are used, and what their tokens cost at their entropy.


def _code_accumulators(subject: Subject) -> dict[str, Accumulator]:
    assert subject.layout is not None
    return {"codes": CodeCounts(subject.layout), "samples": PerSample()}


def _count(accumulators: Mapping[str, Any], batch: EvaluatedBatch, subject: Subject) -> None:
    accumulators["codes"].update(batch.token_indices)
    accumulators["samples"].update(batch.indices, _size_of(batch))


def _aggregate_codebooks(accumulators: Mapping[str, Any], subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    uses = [use for use in accumulators["codes"].compute() if use.counts.any()]  # ragged samples may hold no token of some codebook
    single, table = [use for use in uses if not use.is_joint], accumulators["samples"].compute()
    found = [aggregate for use in uses for aggregate in _use(use, None if len(uses) == 1 else use.name)]
    count = len(table["indices"])
    bits = entropy_bits([use.counts for use in single], [use.counts.sum() / count for use in single])
    protocol = "a sample's tokens at the plug-in entropy of their codebook over all samples evaluated, neighbors ignored"
    mean = {"tokens": table["tokens"].mean(), "size": table["size"].mean(axis=0)}
    found.append(Aggregate(key="bits_per_sample.entropy", value=bits, count=count, protocol=protocol))
    held = float(mean["tokens"])
    found.append(
        Aggregate(
            key="bits_per_token.entropy",
            value=bits / held if held else None,
            no_value="" if held else NO_TOKENS,
            count=count,
            protocol=f"{protocol}; over its tokens",
        )
    )
    if subject.spec.modality in ("image", "video"):
        pixels = float(np.prod(table["size"], axis=1).mean())
        found.append(Aggregate(key="bits_per_pixel.entropy", value=bits / pixels, count=count, protocol=f"{protocol}; over its pixels"))
    if subject.spec.rate is not None:
        seconds = float(mean["size"][0]) / subject.spec.rate
        found.append(Aggregate(key="bits_per_second.entropy", value=bits / seconds, count=count, protocol=f"{protocol}; over its seconds"))
    return found


def _use(use: CodeUse, part: str | None) -> list[Aggregate]:
    details = {"vocab_size": use.vocab_size, "tokens": int(use.counts.sum()), "used_codes": int((use.counts > 0).sum())}
    return [
        Aggregate(
            key=key,
            part=part,
            value=value,
            count=use.samples,
            protocol=protocol,
            details=details,
            code_counts={use.name: use.counts} if key == "codebook.usage" and not use.is_joint else {},
        )
        for key, value, protocol in (
            ("codebook.usage", details["used_codes"] / use.vocab_size, f"share of the codebook's codes that occur {SCOPE}"),
            ("codebook.perplexity", perplexity(use.counts), f"2^H with the plug-in entropy {SCOPE}, not a mean over batches"),
            ("codebook.entropy.plugin", plugin_entropy(use.counts), f"-sum p log2 p {SCOPE}"),
            ("codebook.entropy.miller_madow", miller_madow_entropy(use.counts), f"plug-in plus (used codes - 1) / (2 n ln 2), {SCOPE}"),
        )
    ]


CODEBOOK = StreamMetric(
    name="codebook",
    values={
        "codebook.usage": Value("Codebook usage", better="higher"),
        "codebook.perplexity": Value("Codebook perplexity", better="higher"),
        "codebook.entropy.plugin": Value("Codebook entropy", unit="bits", better="higher"),
        "codebook.entropy.miller_madow": Value("Codebook entropy, Miller-Madow", unit="bits", better="higher"),
        **_values("entropy", "at their entropy"),
    },
    needs=("tokens",),
    accumulators=_code_accumulators,
    compute=_count,
    aggregate=_aggregate_codebooks,
)


_ESTIMATES = {
    "codebook.entropy.chao_shen": (chao_shen_entropy, "Chao-Shen", "coverage-adjusted Horvitz-Thompson estimate"),
    "codebook.entropy.grassberger": (grassberger_entropy, "Grassberger", "Grassberger's estimate of 1988"),
    "codebook.entropy.zhang": (zhang_entropy, "Zhang", "Zhang's estimate of 2012"),
    "codebook.entropy.chao_wang_jost": (chao_wang_jost_entropy, "Chao-Wang-Jost", "Zhang's estimate plus the expected share of unseen codes"),
    "codebook.entropy.shrink": (shrink_entropy, "James-Stein", "plug-in after shrinking towards equal use of the whole codebook"),
}


def _aggregate_estimates(accumulators: Mapping[str, Any], subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    uses = [use for use in accumulators["codes"].compute() if use.counts.any() and not use.is_joint]
    found = []
    for use in uses:
        part = None if len(uses) == 1 else use.name
        numbers = {key: (estimate(use.counts), f"{words}, {SCOPE}") for key, (estimate, _, words) in _ESTIMATES.items()}
        numbers["codebook.gini"] = gini(use.counts), f"Gini coefficient of the counts of the whole codebook {SCOPE}"
        numbers["codebook.divergence"] = divergence_from_uniform(use.counts), f"log2 K minus the plug-in entropy {SCOPE}"
        details = {"vocab_size": use.vocab_size, "tokens": int(use.counts.sum()), "usage": usage(use.counts)}
        found += [
            Aggregate(key=key, part=part, value=value, count=use.samples, protocol=protocol, details=details)
            for key, (value, protocol) in numbers.items()
        ]
    return found


ENTROPY = StreamMetric(
    name="entropy",
    values={
        **{key: Value(f"Codebook entropy, {title}", unit="bits", better="higher") for key, (_, title, _) in _ESTIMATES.items()},
        "codebook.gini": Value("Gini coefficient of the codes' use", better="lower"),
        "codebook.divergence": Value("Divergence from equal use", unit="bits", better="lower"),
    },
    needs=("tokens",),
    accumulators=_code_accumulators,
    compute=_count,
    aggregate=_aggregate_estimates,
)


# Bits under an autoregressive prior.

MOST_NATS = 700.0
"""Per token, of which floats still hold the perplexity."""


@runtime_checkable
class ExactLikelihood(Protocol):
    """A generator that computes the exact likelihood of tokens in one pass."""

    def nll(self, tokens: Tokens, condition: ConditionLike = None) -> Tensor:
        """(B,) minus the log-probability of every sample in nats."""


def _why_no_likelihood(subject: Subject) -> str | None:
    generator, layout = subject.generator, subject.layout
    assert generator is not None
    if not isinstance(generator, ExactLikelihood):
        return f"a {type(generator).__name__} gives no exact likelihood of tokens"
    if layout is not None and not generator.layout.accepts(layout):
        return "the generator models tokens of another layout"
    condition = generator.config.condition
    if not isinstance(condition, NoCondition | ClassCondition):
        return f"the generator is conditioned on {condition.type}, which the data does not contain"
    return None


@torch.no_grad()
def _compute_prior(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
    generator, tokens = subject.generator, batch.token_indices
    assert isinstance(generator, ExactLikelihood)
    is_conditional = subject.generator is not None and subject.generator.num_classes > 0
    if is_conditional and batch.labels is None:
        return {}
    nats = generator.nll(tokens, batch.labels if is_conditional else None)
    return {**_size_of(batch), "bits": tokens.bits, "nats": nats.double().cpu()}


def _aggregate_prior(table: Table, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    generator = subject.generator
    assert generator is not None
    condition = "the sample's class" if generator.num_classes else "no condition"
    parameters = generator.num_parameters
    protocol = f"-log2 p of a sample's tokens under an autoregressive prior ({type(generator).__name__}, {parameters:,} parameters, {condition})"
    information = prior_information(table["nats"], table["tokens"])
    nominal = float(table["bits"].sum() / information.tokens)
    found = _costs("ar", table["nats"] / LN2, table, subject, bootstrap, protocol)
    perplexity = float(np.exp(information.nats_per_token)) if information.nats_per_token < MOST_NATS else None
    saving = information.saving(nominal) if nominal else None
    facts = (
        ("ar.perplexity", perplexity, f"it is above e^{MOST_NATS:g}", f"exp of the mean nats per token; {protocol}"),
        ("ar.saving", saving, NO_BITS, f"share of log2 K that the prior saves; {protocol}"),
    )
    found += [
        Aggregate(
            key=key,
            value=value,
            no_value="" if value is not None else why,
            count=information.samples,
            protocol=words,
            no_interval="a ratio of sums",
        )
        for key, value, why, words in facts
    ]
    flops = 2 * parameters * information.tokens
    capacity = None
    if nominal:
        capacity = information_capacity_style(
            raw_bits=float(table["bits"].sum()),
            coded_bits=information.bits_per_token * information.tokens,
            symbols=information.tokens,
            flops=flops,
        )
    how = f"(log2 K - bits under the prior) per token over ln(FLOPs per token), 2 FLOPs per parameter and token; {protocol}"
    found.append(
        Aggregate(
            key="information_capacity",
            value=capacity,
            no_value="" if nominal else NO_BITS,
            count=information.samples,
            protocol=how,
            no_interval="a ratio of sums",
            details={"flops": flops},
        )
    )
    return found


AR_BITS = SampleMetric(
    name="ar_bits",
    values={
        **_values("ar", "under the prior"),
        "ar.perplexity": Value("Perplexity under the prior", better="lower"),
        "ar.saving": Value("Share of the nominal bits that the prior saves"),
        "information_capacity": Value("Information capacity (style)", better="higher"),
    },
    needs=("tokens", "generator"),
    unavailable=_why_no_likelihood,
    absent="the generator is conditional on classes, and the data has none",
    compute=_compute_prior,
    aggregate=_aggregate_prior,
)
