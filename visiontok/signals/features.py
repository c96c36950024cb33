"""Sequences of feature vectors, for tokenizers that read the features of another network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Positive
from visiontok.base.errors import SignalError
from visiontok.signals.batch import SignalBatch
from visiontok.signals.preprocessing import Preprocessing, SignalLike, as_items, checked_values, tensor_of
from visiontok.signals.spec import SignalSpec


class FeaturePreprocessing(Preprocessing):
    """Takes sequences as they are.

    Attributes:
        channels: of a feature vector.
        length: vectors of a sequence, where the network takes that many only; None for any number.
        multiple_of: sequences have a multiple of so many vectors, such as those of a frame.
        rate: vectors per second; None where they have no time.
    """

    channels: Positive
    length: Positive | None = None
    multiple_of: Positive = 1
    rate: Annotated[float, Field(gt=0)] | None = None

    @property
    def spec(self) -> SignalSpec:
        return SignalSpec(modality="features", channels=self.channels, rate=self.rate)

    @property
    def fixed_size(self) -> tuple[int, ...] | None:
        return None if self.length is None else (self.length,)

    @property
    def usual_size(self) -> tuple[int, ...]:
        return (self.length or -(-16 // self.multiple_of) * self.multiple_of,)

    def __call__(self, signal: SignalLike | Sequence[SignalLike]) -> SignalBatch:
        """A batch (B, C, T) from such a batch, sequences (C, T), or a list of them.

        Raises:
            SignalError: naming what was found and what is expected.
        """
        if isinstance(signal, Tensor) and signal.ndim == 3:
            return self._fit(SignalBatch.of(checked_values(signal, self.spec, "the batch")))
        return self._fit(SignalBatch.stack([self._sequence(item, f"item {number}") for number, item in enumerate(as_items(signal))]))

    def _fit(self, batch: SignalBatch) -> SignalBatch:
        if self.length is not None and bool((batch.sizes != self.length).any()):
            raise SignalError(f"sequences of {sorted(set(batch.sizes.flatten().tolist()))} vectors; this model takes {self.length}")
        if bool((batch.sizes % self.multiple_of).any()):
            raise SignalError(f"sequences of {sorted(set(batch.sizes.flatten().tolist()))} vectors; this model takes multiples of {self.multiple_of}")
        return batch

    def _sequence(self, item: SignalLike, name: str) -> Tensor:
        if isinstance(item, np.ndarray):
            item = tensor_of(item, name)
        if not isinstance(item, Tensor) or item.ndim != 2:
            found = f"a tensor of shape {tuple(item.shape)}" if isinstance(item, Tensor) else type(item).__name__
            raise SignalError(f"{name} is {found}; expected a tensor or an array (C, T), or a batch {self.spec.shape}")
        return checked_values(item[None], self.spec, name)[0]
