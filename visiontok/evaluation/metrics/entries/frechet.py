"""The Fréchet distance between reconstructions and their originals in a suite."""

from __future__ import annotations

import numpy as np

from visiontok.evaluation.features import FeatureExtractor
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.entries.base import Batch, Measure
from visiontok.evaluation.metrics.entries.frechet_sides import frechet_value
from visiontok.evaluation.metrics.frechet_bootstrap import centred_interval, resampled_distances, why_no_interval
from visiontok.evaluation.metrics.moments import Moments
from visiontok.evaluation.metrics.per_sample import PerImage
from visiontok.evaluation.metrics.value import MetricValue


class FrechetMeasure(Measure):
    """FD over a named extractor; both sides are the same images, so their numbers are equal by construction."""

    def __init__(self, extractor: FeatureExtractor, *, allow_few_samples: bool, samples: int | None = None) -> None:
        """Keep the features of single images only where they will be resampled.

        Args:
            extractor: whose features the distance is computed over.
            allow_few_samples: accept no more samples than features.
            samples: how many images there will be over all processes; without it there is no interval.
        """
        self._extractor, self._allow_few_samples, self._samples = extractor, allow_few_samples, samples
        self._reference, self._reconstruction = Moments(), Moments()
        self._kept = PerImage()
        self._resampled: dict[BootstrapConfig, np.ndarray] = {}
        super().__init__(reference=self._reference, reconstruction=self._reconstruction, kept=self._kept)

    def update(self, batch: Batch) -> None:
        reference, reconstruction = batch.reference_features(self._extractor), batch.reconstruction_features(self._extractor)
        self._reference.update(reference)
        self._reconstruction.update(reconstruction)
        self._resampled.clear()
        if not why_no_interval(self._samples, reference.shape[1]):
            self._kept.update(batch.numbers, reference=reference.float(), reconstruction=reconstruction.float())

    def values(self, bootstrap: BootstrapConfig) -> list[MetricValue]:
        value = frechet_value(
            self._reconstruction.compute(),
            self._reference.compute(),
            extractor=self._extractor,
            reference_side="the originals of the same images, through the same crop",
            allow_few_samples=self._allow_few_samples,
        )
        assert value.value is not None
        for resampled in self.resampled(bootstrap).values():
            return [value.replace(interval=centred_interval(value.value, resampled, samples=value.count, bootstrap=bootstrap))]
        return [value.replace(no_interval=why_no_interval(self._samples, len(self._reference.compute().mean)))]

    def resampled(self, bootstrap: BootstrapConfig) -> dict[str, np.ndarray]:
        if not len(self._kept):
            return {}
        if bootstrap not in self._resampled:
            table = self._kept.compute()
            self._resampled[bootstrap] = resampled_distances(table["reconstruction"], table["reference"], paired=True, bootstrap=bootstrap)
        return {self._extractor.title("FD"): self._resampled[bootstrap]}
