"""Metrics on batches made by hand."""

from collections.abc import Sequence

import torch
from torch import Tensor

from visiontok.evaluation import BootstrapConfig, FeatureExtractor
from visiontok.evaluation.features import feature_width
from visiontok.evaluation.metrics.metric import EvaluatedBatch, Subject
from visiontok.evaluation.metrics.needs import suitable
from visiontok.evaluation.metrics.registry import select
from visiontok.evaluation.metrics.running import RunningMetrics
from visiontok.signals import SignalBatch, SignalSpec

RGB = SignalSpec(modality="image", channels=3, low=0, high=1)
BOOTSTRAP = BootstrapConfig(resamples=100)


def selected(
    names: Sequence[str], layout=None, extractors: Sequence[FeatureExtractor] = (), *, spec: SignalSpec = RGB, **facts
) -> tuple[RunningMetrics, dict[str, str]]:
    """Those of these metrics that apply, ready to run, and why the others do not."""
    subject = Subject(task="reconstruction", spec=spec, extractors=extractors, layout=layout, **facts)
    metrics, omitted = select(names, subject)
    widths = {extractor.name: feature_width(extractor, torch.zeros(1, 3, 16, 16)) for extractor in suitable(subject)}
    return RunningMetrics(metrics, subject, widths=widths), omitted


def batch(indices: Tensor, reference: Tensor, samples: Tensor, tokens=None, labels=None, objects=None) -> EvaluatedBatch:
    """Of samples of one size."""
    return EvaluatedBatch(indices, SignalBatch.of(reference), SignalBatch.of(samples), tokens, labels, objects)


def values(running: RunningMetrics) -> dict:
    """By name."""
    return {value.name: value for value in running.outcome(BOOTSTRAP).values}
