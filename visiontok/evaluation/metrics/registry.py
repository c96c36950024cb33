"""Every metric that a suite can request, by name. Each is declared once, in `entries`; suites, harnesses, reports and documentation read it here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from visiontok.base.names import unknown
from visiontok.evaluation.metrics.entries import (
    classifier,
    complexity,
    density,
    feature_sets,
    fidelity,
    flicker,
    frechet,
    perceptual,
    perturbed,
    probes,
    rates,
    sound,
    speech,
)
from visiontok.evaluation.metrics.entries.token_statistics import TOKEN_STATISTICS
from visiontok.evaluation.metrics.metric import FeatureMetric, Metric, Subject, Task
from visiontok.evaluation.metrics.needs import why_unavailable
from visiontok.evaluation.metrics.value import heading

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            fidelity.MSE,
            fidelity.PSNR,
            fidelity.SSIM,
            fidelity.MS_SSIM,
            *perceptual.LPIPS,
            perceptual.DISTS,
            flicker.FLICKER,
            sound.STFT_DISTANCE,
            sound.MEL_DISTANCE,
            sound.SI_SDR,
            sound.STOI,
            *sound.PESQ,
            sound.VISQOL,
            sound.F0,
            speech.WER,
            speech.SPEAKER_SIMILARITY,
            speech.PREDICTED_MOS,
            frechet.FRECHET,
            feature_sets.KERNEL_DISTANCE,
            feature_sets.CMMD,
            feature_sets.MANIFOLD,
            feature_sets.INCEPTION_SCORE,
            perturbed.PERTURBED_FRECHET,
            classifier.CLASSIFIER,
            probes.LINEAR_PROBE,
            probes.NEAREST_NEIGHBORS,
            rates.RATE,
            rates.CODEBOOK,
            rates.ENTROPY,
            TOKEN_STATISTICS,
            rates.AR_BITS,
            complexity.COMPLEXITY,
            density.DENSITY,
            density.TOKDENSE,
        )
    }
)
"""Name -> declaration."""

QUALITIES: tuple[str, ...] = tuple(name for name, metric in METRICS.items() if metric.is_quality)
"""The metrics whose values are drawn against the rate: those with a better direction."""


def find_metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UnknownNameError: with close matches.
    """
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


def heading_of(name: str) -> str:
    """The name of a value as a reader knows it: "psnr.mean_db" -> "PSNR ↑ (dB)"; the name itself where no metric declares it.

    Args:
        name: of a value, with the extractor in brackets where there is one, perhaps at a number of tokens: "ssim at 4 tokens".
    """
    whole, at, length = name.partition(" at ")
    stem, bracket, rest = whole.partition("[")
    extractor, _, suffix = rest.partition("]")
    declared = {key: value for metric in METRICS.values() for key, value in metric.values.items()}
    value = declared.get(f"{stem}[]{suffix}" if bracket else whole)
    if value is None:
        return name
    return heading(value.title + (f", {extractor}" if extractor else ""), unit=value.unit, better=value.better) + at + length


def check_names(names: Sequence[str], task: Task) -> None:
    """Raise a ValueError if a metric is named twice, does not exist, or is none of the task's."""
    if len(set(names)) < len(names):
        raise ValueError(f"metrics names one twice: {', '.join(names)}")
    for name in names:
        known = [metric.name for metric in METRICS.values() if task in metric.tasks]
        if name not in known:
            raise ValueError(str(unknown(f"metric of {task}", name, known)))


def needs_extractors(name: str) -> bool:
    """Whether a metric is computed over features."""
    return isinstance(METRICS[name], FeatureMetric) or "extractors" in METRICS[name].needs


def reasons(omitted: Mapping[str, str]) -> str:
    """Why metrics were omitted, as part of a sentence."""
    return "; ".join(f"{metric}: {reason}" for metric, reason in omitted.items())


def select(names: Sequence[str], subject: Subject) -> tuple[list[Metric], dict[str, str]]:
    """Those of these metrics that apply to a subject, ready to run, and why the others do not.

    Raises:
        CheckpointError: if the weights of a metric's network are missing.
    """
    chosen, omitted = [], {}
    for name in names:
        metric = find_metric(name)
        reason = why_unavailable(metric, subject)
        if reason is not None:
            omitted[name] = reason
            continue
        metric.prepare(subject)
        chosen.append(metric)
    return chosen, omitted
