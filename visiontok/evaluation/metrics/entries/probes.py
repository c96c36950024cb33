"""Probes: how well classes are predicted from frozen tokens, by a linear classifier and by nearest neighbors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation.metrics.metric import EvaluatedBatch, ProbeMetric, Subject, Value
from visiontok.evaluation.metrics.probes import LabeledFeatures, linear_probe, nearest_neighbors, pooled
from visiontok.tokens import Latents, Tokens


@torch.no_grad()
def probe_columns(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
    """One vector per sample out of its codes or latents, and its class."""
    tokens, tokenizer, probe = batch.tokens, subject.tokenizer, subject.probe
    assert tokens is not None
    assert tokenizer is not None
    assert probe is not None
    assert batch.labels is not None
    embedding = torch.empty(0, dtype=torch.float32)
    for rows, group in tokens.to(tokenizer.device).groups():
        embeddings, mask = _embeddings(group, tokenizer)
        vectors = pooled(embeddings.float().cpu(), pooling=probe.pooling, mask=mask.cpu())
        if not len(embedding):
            embedding = vectors.new_empty(len(tokens), vectors.shape[1])
        embedding[rows.cpu()] = vectors
    return {"embedding": embedding, "label": batch.labels}


def _embeddings(tokens: Tokens | Latents, tokenizer: Tokenizer[Any]) -> tuple[Tensor, Tensor]:
    """(B, L, D) of every position, and which of them (B, L) a sample holds."""
    if isinstance(tokens, Latents):
        return tokens.values, tokens.mask
    if not tokens.is_full:
        return tokenizer.codes_of(tokens), tokens.mask
    codes = tokenizer.embeddings(tokens)
    return codes, torch.ones(codes.shape[:2], dtype=torch.bool)


def _why_not(subject: Subject) -> str | None:
    layout, probe = subject.layout, subject.probe
    if layout is not None and (layout.ragged or layout.is_variable) and probe is not None and probe.pooling == "concatenate":
        return "the number of tokens differs between samples, so they cannot be concatenated: set probe.pooling=mean"
    return None


def _linear(train: LabeledFeatures, test: LabeledFeatures, subject: Subject) -> np.ndarray:
    assert subject.probe is not None
    return linear_probe(train, test, inverse_penalty=subject.probe.inverse_penalty)


def _one_class(train: LabeledFeatures, subject: Subject) -> str:
    known = np.unique(train.labels)
    return f"all {len(train.labels)} training samples are of class {known[0]}" if len(known) == 1 else ""


def _linear_protocol(subject: Subject) -> str:
    assert subject.probe is not None
    return f"multinomial logistic regression, C = {subject.probe.inverse_penalty:g}, on standardized {_pooling(subject)}"


def _neighbors(train: LabeledFeatures, test: LabeledFeatures, subject: Subject) -> np.ndarray:
    assert subject.probe is not None
    return nearest_neighbors(train, test, neighbors=subject.probe.neighbors)


def _few_neighbors(train: LabeledFeatures, subject: Subject) -> str:
    assert subject.probe is not None
    few = len(train.labels) < subject.probe.neighbors
    return f"{len(train.labels)} training samples are fewer than the {subject.probe.neighbors} neighbors" if few else ""


def _neighbors_protocol(subject: Subject) -> str:
    assert subject.probe is not None
    return f"vote of {subject.probe.neighbors} neighbors by cosine similarity of {_pooling(subject)}"


def _pooling(subject: Subject) -> str:
    assert subject.probe is not None
    return "token embeddings, mean over positions" if subject.probe.pooling == "mean" else "concatenated token embeddings"


LINEAR_PROBE = ProbeMetric(
    name="linear_probe",
    values={"linear_probe": Value("Linear probe accuracy", better="higher")},
    needs=("probe",),
    unavailable=_why_not,
    absent="the data has no classes",
    classify=_linear,
    undefined=_one_class,
    protocol=_linear_protocol,
)
NEAREST_NEIGHBORS = ProbeMetric(
    name="nearest_neighbors",
    values={"nearest_neighbors": Value("Nearest-neighbor accuracy", better="higher")},
    needs=("probe",),
    unavailable=_why_not,
    absent="the data has no classes",
    classify=_neighbors,
    undefined=_few_neighbors,
    protocol=_neighbors_protocol,
)
