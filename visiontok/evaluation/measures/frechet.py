"""The Fréchet distance between reconstructions and their originals in a suite."""

from __future__ import annotations

from visiontok.evaluation.bootstrap import BootstrapConfig
from visiontok.evaluation.features import FeatureExtractor
from visiontok.evaluation.frechet_sides import frechet_value
from visiontok.evaluation.measures.base import Batch, Measure
from visiontok.evaluation.metrics.moments import Moments
from visiontok.evaluation.result import MetricValue


class FrechetMeasure(Measure):
    """FD over a named extractor; both sides are the same images, so their numbers are equal by construction."""

    def __init__(self, extractor: FeatureExtractor, *, allow_few_samples: bool) -> None:
        self._extractor, self._allow_few_samples = extractor, allow_few_samples
        self._reference, self._reconstruction = Moments(), Moments()
        super().__init__(reference=self._reference, reconstruction=self._reconstruction)

    def update(self, batch: Batch) -> None:
        self._reference.update(batch.reference_features(self._extractor))
        self._reconstruction.update(batch.reconstruction_features(self._extractor))

    def values(self, bootstrap: BootstrapConfig) -> list[MetricValue]:
        return [
            frechet_value(
                self._reconstruction.compute(),
                self._reference.compute(),
                extractor=self._extractor,
                reference_side="the originals of the same images, through the same crop",
                allow_few_samples=self._allow_few_samples,
            )
        ]
