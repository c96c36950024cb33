"""The requirements of metrics, by name, and why a subject does not meet one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from visiontok.evaluation.features.base import Classifier, FeatureExtractor
from visiontok.evaluation.metrics.metric import Metric, Subject


def _decoder(subject: Subject) -> str | None:
    tokenizer = subject.tokenizer
    if tokenizer is None:
        return None
    if not tokenizer.can_decode:
        return "the tokenizer has no decoder"
    if not tokenizer.spec.is_comparable(tokenizer.preprocessing.spec):
        return f"its output differs in kind from its input: {tokenizer.spec} and {tokenizer.preprocessing.spec}"
    return None


def _bounded(subject: Subject) -> str | None:
    return "the values of these signals have no bounds, so there is no peak value" if subject.spec.peak is None else None


def _frames(subject: Subject) -> str | None:
    return None if subject.spec.modality in ("image", "video") else f"it is defined for images and frames, not for {subject.spec.modality}"


def _clips(subject: Subject) -> str | None:
    return None if subject.spec.modality == "video" else f"it is defined for clips, not for {subject.spec.modality}"


def _sound(subject: Subject) -> str | None:
    return None if subject.spec.modality == "audio" else f"it is defined for sound, not for {subject.spec.modality}"


def _rgb(subject: Subject) -> str | None:
    spec = subject.spec
    return None if spec.is_rgb else f"its network takes RGB images, not {spec.channels}-channel {spec.modality}"


def _tokens(subject: Subject) -> str | None:
    if subject.layout is None:
        return "there are no tokens"
    return "the latents are continuous: there are no tokens to count" if subject.layout.is_continuous else None


def _fixed_length(subject: Subject) -> str | None:
    return "the number of tokens differs between samples" if subject.lengths_vary else None


def _all_tokens(subject: Subject) -> str | None:
    return "samples are decoded from some of their tokens: drop lengths and max_loss" if subject.is_shortened else None


def _extractors(subject: Subject) -> str | None:
    if not subject.extractors:
        return "the suite names no feature extractor"
    if not suitable(subject):
        names = ", ".join(extractor.name for extractor in subject.extractors)
        return f"none of the extractors {names} takes {subject.spec.channels}-channel {subject.spec.modality}"
    return None


def _classifiers(subject: Subject) -> str | None:
    return None if any(isinstance(extractor, Classifier) for extractor in suitable(subject)) else "none of the extractors is a classifier"


def _reference_samples(subject: Subject) -> str | None:
    return None if subject.has_reference_samples else "it compares samples with samples, and the reference is a file of statistics"


def _generator(subject: Subject) -> str | None:
    return "no generator was given: name one with --generator" if subject.generator is None else None


def _probe(subject: Subject) -> str | None:
    return None if subject.probe is not None else "the suite names no training samples for probes: set probe.data"


NEEDS: Mapping[str, Callable[[Subject], str | None]] = MappingProxyType(
    {
        "decoder": _decoder,
        "bounded values": _bounded,
        "frames": _frames,
        "clips": _clips,
        "RGB": _rgb,
        "sound": _sound,
        "tokens": _tokens,
        "fixed length": _fixed_length,
        "all tokens": _all_tokens,
        "extractors": _extractors,
        "reference samples": _reference_samples,
        "classifiers": _classifiers,
        "generator": _generator,
        "probe": _probe,
    }
)
"""Requirement -> why the subject does not meet it; None if it does."""


def suitable(subject: Subject) -> list[FeatureExtractor]:
    """The extractors that take the subject's signals."""
    return [extractor for extractor in subject.extractors if extractor.takes(subject.spec)]


def why_unavailable(metric: Metric, subject: Subject) -> str | None:
    """Why a metric does not apply to a subject; None where it does."""
    if subject.task not in metric.tasks:
        return f"it is no metric of {subject.task}"
    for need in metric.needs:
        reason = NEEDS[need](subject)
        if reason is not None:
            return reason
    return _too_few(metric, subject) or _too_small(metric, subject) or metric.unavailable(subject)


def _too_few(metric: Metric, subject: Subject) -> str | None:
    counts = [count for count in (subject.count, subject.reference_count) if count is not None]
    if not counts or min(counts) >= metric.fewest_samples:
        return None
    return f"it is not defined for {min(counts)} {subject.samples_word}; it needs at least {metric.fewest_samples}"


def _too_small(metric: Metric, subject: Subject) -> str | None:
    if subject.size is None or subject.spec.modality not in ("image", "video") or min(subject.size[-2:]) >= metric.smallest_side:
        return None
    height, width = subject.size[-2:]
    return f"it is not defined for {height} x {width} pixels; it needs at least {metric.smallest_side} on both sides"
