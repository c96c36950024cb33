"""What an independent classifier says of originals and of their reconstructions."""

from __future__ import annotations

import numpy as np

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.features import Classifier
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, bootstrap_mean
from visiontok.evaluation.metrics.entries.base import Batch, Measure
from visiontok.evaluation.metrics.per_sample import PerImage
from visiontok.evaluation.metrics.value import MetricValue


class ClassifierMeasure(Measure):
    """Share of originals and of reconstructions that the classifier gets right, and of images where it says the same of both."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier, self._table = classifier, PerImage()
        super().__init__(images=self._table)

    def update(self, batch: Batch) -> None:
        if batch.labels is None:
            raise EvaluationError("this data has no classes, so a classifier has nothing to agree with; leave the metric 'classifier' out")
        self._table.update(
            batch.numbers,
            label=batch.labels,
            original=self._classifier.logits_of(batch.reference_features(self._classifier)).argmax(dim=1),
            reconstruction=self._classifier.logits_of(batch.reconstruction_features(self._classifier)).argmax(dim=1),
        )

    def values(self, bootstrap: BootstrapConfig) -> list[MetricValue]:
        meanings = ("originals, true class", "reconstructions, true class of the original", "reconstruction and original are given the same class")
        return [agreement_value(name, agrees, bootstrap, what) for (name, agrees), what in zip(self._agreements().items(), meanings, strict=True)]

    def per_image(self) -> dict[str, np.ndarray]:
        return {name: agrees.astype(np.float64) for name, agrees in self._agreements().items()}

    def _agreements(self) -> dict[str, np.ndarray]:
        table, name = self._table.compute(), self._classifier.name
        return {
            f"accuracy[{name}].originals": table["original"] == table["label"],
            f"accuracy[{name}].reconstructions": table["reconstruction"] == table["label"],
            f"agreement[{name}]": table["reconstruction"] == table["original"],
        }


def agreement_value(name: str, agrees: np.ndarray, bootstrap: BootstrapConfig, what: str) -> MetricValue:
    """The share of (N,) truth values, with its interval."""
    return MetricValue(
        name=name,
        value=float(agrees.mean()),
        better="higher",
        count=len(agrees),
        interval=bootstrap_mean(agrees.astype(np.float64), bootstrap),
        protocol=f"share of images: {what}",
    )
