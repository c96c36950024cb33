"""What is kept of generated pictures, or of the real ones they are compared with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from visiontok.evaluation.features import FeatureExtractor
from visiontok.evaluation.metrics.accumulator import Accumulator, load_states, states_of
from visiontok.evaluation.metrics.moments import Moments
from visiontok.evaluation.metrics.per_sample import PerImage
from visiontok.evaluation.results.identity import Pictures


class SampleSide:
    """Moments, features and fingerprints of one side; all of it lies in accumulators, so that a killed measurement can go on.

    Attributes:
        moments: by extractor.
        pictures: which they were.
        verdicts: one row per picture, filled by whoever asks classifiers.
    """

    def __init__(self, extractors: Sequence[FeatureExtractor], *, kept: Collection[str]) -> None:
        """Start empty.

        Args:
            extractors: each sees a picture once.
            kept: names of those whose features are kept for every picture, in float32.
        """
        self._extractors = extractors
        self.moments = {extractor.name: Moments() for extractor in extractors}
        self._features = {name: PerImage() for name in kept}
        self.pictures = Pictures()
        self.verdicts = PerImage()

    @property
    def count(self) -> int:
        """Pictures so far."""
        return self.pictures.count

    def update(self, images: Tensor, numbers: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Take in (B, 3, H, W) uint8, numbered on from those before unless they have numbers of their own; gives the numbers and the features."""
        numbers = torch.arange(self.count, self.count + len(images)) if numbers is None else numbers
        features = {extractor.name: extractor(images) for extractor in self._extractors}
        self.pictures.update(numbers, images)
        for name, moments in self.moments.items():
            moments.update(features[name])
        for name, table in self._features.items():
            table.update(numbers, features=features[name].float())
        return numbers, features

    def features(self, name: str) -> np.ndarray:
        """(N, D) float32 in the order of the pictures' numbers, of an extractor whose features are kept."""
        return self._features[name].compute()["features"]

    def state(self) -> dict[str, np.ndarray]:
        """Everything seen so far."""
        return states_of(self._parts())

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Replace what was seen by a `state()`."""
        load_states(self._parts(), state)

    def _parts(self) -> dict[str, Accumulator]:
        moments = {f"moments.{name}": part for name, part in self.moments.items()}
        features = {f"features.{name}": part for name, part in self._features.items()}
        return {"pictures": self.pictures.table, "verdicts": self.verdicts, **moments, **features}
