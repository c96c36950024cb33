"""Accuracy of an independent classifier on originals and on reconstructions, and conditional accuracy of generated samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import JsonValue
from torch import Tensor

from visiontok.evaluation.features.base import Classifier
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, bootstrap_mean
from visiontok.evaluation.metrics.metric import Aggregate, EvaluatedBatch, SampleMetric, Subject, Table, Value
from visiontok.evaluation.metrics.needs import suitable

_ORIGINAL, _SAMPLE = "original", "sample"


def _compute(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
    if batch.labels is None:
        return {}
    columns = {"label": batch.labels}
    for classifier in _classifiers(subject):
        if batch.reference is not None:
            columns[f"{_ORIGINAL} {classifier.name}"] = classifier.logits_of(batch.features(classifier, "reference").features).argmax(dim=1)
        if batch.samples is not None:
            columns[f"{_SAMPLE} {classifier.name}"] = classifier.logits_of(batch.features(classifier, "samples").features).argmax(dim=1)
    return columns


def _aggregate(table: Table, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    if subject.task == "generation":
        return [_conditional_accuracy(table, classifier, bootstrap) for classifier in _classifiers(subject)]
    found = []
    for classifier in _classifiers(subject):
        original, sample, label = table[f"{_ORIGINAL} {classifier.name}"], table.get(f"{_SAMPLE} {classifier.name}"), table["label"]
        found.append(_share("accuracy[].originals", original == label, classifier, bootstrap, "originals, true class"))
        if sample is not None:
            what = "reconstructions, true class of the original"
            found.append(_share("accuracy[].reconstructions", sample == label, classifier, bootstrap, what))
            what = "reconstruction and original are given the same class"
            found.append(_share("agreement[]", sample == original, classifier, bootstrap, what))
    return found


def _conditional_accuracy(table: Table, classifier: Classifier, bootstrap: BootstrapConfig) -> Aggregate:
    """The share of samples that are classified as the class that was requested, also by class."""
    label = table["label"]
    agrees = table[f"{_SAMPLE} {classifier.name}"] == label
    by_class: dict[str, JsonValue] = {str(each): float(agrees[label == each].mean()) for each in np.unique(label)}
    what = f"{classifier.name} predicts the requested class"
    return _share("conditional_accuracy[]", agrees, classifier, bootstrap, what, details={"by_class": by_class})


def _share(
    key: str, agrees: np.ndarray, classifier: Classifier, bootstrap: BootstrapConfig, what: str, *, details: Mapping[str, JsonValue] | None = None
) -> Aggregate:
    column = agrees.astype(np.float64)
    return Aggregate(
        key=key,
        extractor=classifier,
        value=float(agrees.mean()),
        count=len(agrees),
        interval=bootstrap_mean(column, bootstrap),
        protocol=f"share of samples: {what}",
        per_sample=column,
        details=details or {},
    )


def _classifiers(subject: Subject) -> list[Classifier]:
    return [extractor for extractor in suitable(subject) if isinstance(extractor, Classifier)]


CLASSIFIER = SampleMetric(
    name="classifier",
    values={
        "accuracy[].originals": Value("Classifier accuracy on originals", better="higher"),
        "accuracy[].reconstructions": Value("Classifier accuracy on reconstructions", better="higher"),
        "agreement[]": Value("Same class before and after", better="higher"),
        "conditional_accuracy[]": Value("Conditional accuracy", better="higher"),
    },
    needs=("decoder", "classifiers"),
    tasks=("reconstruction", "generation"),
    absent="the data has no classes",
    compute=_compute,
    aggregate=_aggregate,
)
