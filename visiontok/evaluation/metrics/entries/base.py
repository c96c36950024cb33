"""The seat of a metric in a suite: fed with batches of originals and reconstructions, asked for numbers at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from visiontok.evaluation.features import FeatureExtractor
from visiontok.evaluation.metrics.accumulator import Accumulator, State
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.tokens import Latents, Tokens


@dataclass(frozen=True, eq=False)
class Batch:
    """What a tokenizer did to some images.

    Attributes:
        numbers: (B,) places of the images in the data set, each once over all processes.
        reference: (B, 3, H, W) uint8, what the tokenizer was given.
        reconstruction: (B, 3, H, W) uint8.
        tokens: ids or continuous latents in between.
        labels: (B,) int64 classes; None where the data has none.
        objects: (B,) int64 how many objects an image shows; None where the data does not know.
    """

    numbers: Tensor
    reference: Tensor
    reconstruction: Tensor
    tokens: Tokens | Latents
    labels: Tensor | None = None
    objects: Tensor | None = None
    _of_reference: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _of_reconstruction: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def reference_features(self, extractor: FeatureExtractor) -> Tensor:
        """(B, D) float64; computed once, however many measures ask."""
        return _kept(self._of_reference, extractor, self.reference)

    def reconstruction_features(self, extractor: FeatureExtractor) -> Tensor:
        """(B, D) float64; computed once, however many measures ask."""
        return _kept(self._of_reconstruction, extractor, self.reconstruction)

    def reconstructed(self, tokens: Tokens | Latents, reconstruction: Tensor) -> Batch:
        """The same images through other tokens; what is known of the originals stays known."""
        return replace(self, tokens=tokens, reconstruction=reconstruction, _of_reconstruction={})


def _kept(known: dict[str, Tensor], extractor: FeatureExtractor, images: Tensor) -> Tensor:
    if extractor.name not in known:
        known[extractor.name] = extractor(images)
    return known[extractor.name]


class Measure(ABC):
    """One entry of a suite's `metrics`. What it has seen lies in accumulators only, so that every measure can be sharded and resumed."""

    def __init__(self, **accumulators: Accumulator) -> None:
        self.accumulators: Mapping[str, Accumulator] = accumulators

    @abstractmethod
    def update(self, batch: Batch) -> None:
        """Take in a batch."""

    @abstractmethod
    def values(self, bootstrap: BootstrapConfig) -> list[MetricValue]:
        """The numbers over everything seen."""

    def per_image(self) -> dict[str, np.ndarray]:
        """Value name -> (N,) float64, by the images' numbers, what each adds to that mean; not finite where left out."""
        return {}

    def resampled(self, bootstrap: BootstrapConfig) -> dict[str, np.ndarray]:
        """Value name -> (R,) float64, the values over resampled images."""
        return {}

    def code_counts(self) -> dict[str, np.ndarray]:
        """Codebook -> (K,) int64, how often each id occurred."""
        return {}

    def state(self) -> State:
        """Everything seen so far, as arrays."""
        return {f"{name}/{key}": value for name, part in self.accumulators.items() for key, value in part.state().items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Replace what was seen by a `state()`."""
        for name, part in self.accumulators.items():
            part.load_state({key.removeprefix(f"{name}/"): value for key, value in state.items() if key.startswith(f"{name}/")})
