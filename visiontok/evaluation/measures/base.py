"""The seat of a metric in a suite: fed with batches of originals and reconstructions, asked for numbers at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from visiontok.evaluation.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.accumulator import Accumulator, State
from visiontok.evaluation.result import MetricValue
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
    """

    numbers: Tensor
    reference: Tensor
    reconstruction: Tensor
    tokens: Tokens | Latents
    labels: Tensor | None = None


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

    def state(self) -> State:
        """Everything seen so far, as arrays."""
        return {f"{name}/{key}": value for name, part in self.accumulators.items() for key, value in part.state().items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Replace what was seen by a `state()`."""
        for name, part in self.accumulators.items():
            part.load_state({key.removeprefix(f"{name}/"): value for key, value in state.items() if key.startswith(f"{name}/")})
