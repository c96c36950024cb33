"""Metrics of speech by networks that the user points to: word errors, similarity of speakers, predicted ratings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from visiontok.evaluation.features.sound_networks import RatingPredictor, SoundNetwork, SpeakerEmbedding, Transcriber, find_network
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, bootstrap_mean
from visiontok.evaluation.metrics.metric import Aggregate, EvaluatedBatch, SampleMetric, Side, Subject, Table, Value
from visiontok.evaluation.metrics.word_errors import word_errors, words

NetworkT = TypeVar("NetworkT", bound=SoundNetwork)


def _loader(kind: type[NetworkT], field: str) -> tuple[Callable[[Subject], NetworkT], Callable[[Subject], str | None]]:
    """What gives the network that the suite names in a field, and why it cannot."""

    def load(subject: Subject) -> NetworkT:
        return find_network(kind, getattr(subject.networks, field), subject.device)

    def why_unavailable(subject: Subject) -> str | None:
        return None if getattr(subject.networks, field) else f"the suite names no network for it: set networks.{field} to the path of one"

    return load, why_unavailable


def _each(batch: EvaluatedBatch, side: Side, network: SoundNetwork, subject: Subject) -> list:
    """What a network gives for every recording."""
    assert subject.spec.rate is not None
    rate = round(subject.spec.rate)
    return batch.computed(network.identity, side, lambda signals: [network(sound, rate) for sound in signals])


def _mean(key: str, column: np.ndarray, network: SoundNetwork, how: str, bootstrap: BootstrapConfig) -> Aggregate:
    return Aggregate(
        key=key,
        extractor=network,
        value=float(column.mean()),
        count=len(column),
        protocol=f"mean over recordings; {how} by {network.protocol}",
        interval=bootstrap_mean(column, bootstrap),
        per_sample=column,
    )


# Word errors.

_transcriber, _why_no_transcriber = _loader(Transcriber, "transcriber")


def _transcribe(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
    network = _transcriber(subject)
    originals, samples = ([words(text) for text in _each(batch, side, network, subject)] for side in ("reference", "samples"))
    columns = {"own words": [len(text) for text in originals], "own errors": _errors(originals, samples)}
    if batch.texts is not None:
        texts = [words(text) for text in batch.texts]
        columns |= {"words": [len(text) for text in texts], "errors": _errors(texts, samples), "errors of originals": _errors(texts, originals)}
    return {name: torch.tensor(column) for name, column in columns.items()}


def _errors(references: list[list[str]], hypotheses: list[list[str]]) -> list[int]:
    return [word_errors(*pair) for pair in zip(references, hypotheses, strict=True)]


def _word_error_rates(table: Table, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    network = _transcriber(subject)

    def rate(key: str, errors: str, count: str, reference: str) -> Aggregate:
        total = int(table[count].sum())
        return Aggregate(
            key=key,
            extractor=network,
            value=float(table[errors].sum() / total) if total else None,
            no_value="" if total else "there are no words",
            count=len(table[errors]),
            protocol=f"word errors over words, both over all recordings, against {reference}, in lower case without punctuation; {network.protocol}",
            no_interval="a ratio of two sums",
            details={"words": total},
        )

    found = [rate("wer[].against_original", "own errors", "own words", "the transcripts of the originals")]
    if "words" in table:
        found += [
            rate("wer[].reconstructions", "errors", "words", "the texts of the data"),
            rate("wer[].originals", "errors of originals", "words", "the texts of the data"),
        ]
    return found


WER = SampleMetric(
    name="wer",
    values={
        "wer[].against_original": Value("Word error rate against the original", better="lower"),
        "wer[].reconstructions": Value("Word error rate", better="lower"),
        "wer[].originals": Value("Word error rate of originals"),
    },
    needs=("decoder", "sound"),
    unavailable=_why_no_transcriber,
    prepare=_transcriber,
    compute=_transcribe,
    aggregate=_word_error_rates,
)


# Speakers.

_speaker, _why_no_speaker = _loader(SpeakerEmbedding, "speaker")


def _compare_speakers(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
    originals, samples = (torch.stack(_each(batch, side, _speaker(subject), subject)) for side in ("reference", "samples"))
    return {"value": (originals * samples).sum(dim=1)}


SPEAKER_SIMILARITY = SampleMetric(
    name="speaker_similarity",
    values={"speaker_similarity[]": Value("Speaker similarity", better="higher")},
    needs=("decoder", "sound"),
    unavailable=_why_no_speaker,
    prepare=_speaker,
    compute=_compare_speakers,
    aggregate=lambda table, subject, bootstrap: [
        _mean("speaker_similarity[]", table["value"], _speaker(subject), "cosine of the embeddings", bootstrap)
    ],
)


# Ratings.

_rating, _why_no_rating = _loader(RatingPredictor, "rating")


def _rate_both(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
    sides: dict[str, Side] = {"originals": "reference", "reconstructions": "samples"}
    return {name: torch.tensor(_each(batch, side, _rating(subject), subject), dtype=torch.float64) for name, side in sides.items()}


PREDICTED_MOS = SampleMetric(
    name="predicted_mos",
    values={
        "predicted_mos[].reconstructions": Value("Predicted rating", better="higher"),
        "predicted_mos[].originals": Value("Predicted rating of originals"),
    },
    needs=("decoder", "sound"),
    unavailable=_why_no_rating,
    prepare=_rating,
    compute=_rate_both,
    aggregate=lambda table, subject, bootstrap: [
        _mean(f"predicted_mos[].{name}", table[name], _rating(subject), "ratings predicted", bootstrap) for name in ("reconstructions", "originals")
    ],
)
