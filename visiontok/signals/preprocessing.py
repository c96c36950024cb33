"""From whatever a caller holds to the batch that a model takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from visiontok.base.config import Config
from visiontok.base.errors import SignalError
from visiontok.signals.audio_reading import Sound
from visiontok.signals.batch import SignalBatch
from visiontok.signals.spec import SignalSpec
from visiontok.signals.video_reading import Clip

SignalLike: TypeAlias = Tensor | np.ndarray | Image.Image | Sound | Clip | str | Path | bytes | Mapping[str, Any]
"""One signal: a tensor, an array, a PIL image, a decoded sound or clip, a path, the bytes of a file, or a mapping as `datasets` gives for audio."""


class Preprocessing(Config, ABC):
    """What happens to signals before a tokenizer's encoder. Subclasses are one per modality."""

    @property
    @abstractmethod
    def spec(self) -> SignalSpec:
        """What the signals are."""

    @property
    @abstractmethod
    def fixed_size(self) -> tuple[int, ...] | None:
        """The one size that the network takes; None where it takes any (perhaps after padding, see `pad`)."""

    @property
    @abstractmethod
    def usual_size(self) -> tuple[int, ...]:
        """A size that the network takes, for probing."""

    @abstractmethod
    def __call__(self, signal: SignalLike | Sequence[SignalLike]) -> SignalBatch:
        """Signals in the range of `spec`, float32, each at its exact size.

        Raises:
            SignalError: naming the file or the batch item, what was found and what is expected.
        """

    @property
    def multiples(self) -> tuple[int, ...]:
        """The network takes multiples of so many units along each axis; `pad` makes them."""
        return (1,) * len(self.spec.axes)

    def padded_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """The smallest size not below `size` that the network takes."""
        return tuple(-(-extent // multiple) * multiple for extent, multiple in zip(size, self.multiples, strict=True))

    def fits(self, size: Sequence[int]) -> bool:
        """Whether the network takes signals of that size without padding."""
        return tuple(size) == self.fixed_size if self.fixed_size is not None else self.padded_size(size) == tuple(size)

    def pad(self, values: Tensor) -> Tensor:
        """Signals (B, C, *axes) extended at their ends to a size that the network takes: sound by silence, anything else by its last values.

        Raises:
            SignalError: if the network takes one size only, and this is another.
        """
        size = tuple(values.shape[2:])
        if self.fixed_size not in (None, size):
            raise SignalError(f"the signals have size {size}; this network takes {self.fixed_size} only: resize them with tokenizer.prepare(...)")
        amounts = [(0, padded - own) for padded, own in zip(self.padded_size(size), size, strict=True)]
        if not any(most for _, most in amounts):
            return values
        flat = [amount for pair in reversed(amounts) for amount in pair]
        return pad(values, flat) if self.spec.modality == "audio" else pad(values, flat, mode="replicate")

    @property
    def in_words(self) -> str:
        """What happens to the size of files, in one sentence; empty where they keep their size."""
        return ""

    def blank(self, size: Sequence[int] | None = None, *, samples: int = 1) -> Tensor:
        """(samples, C, *size) float32: a signal without content, for probing a network; of the usual size unless another is given."""
        shape = (samples, self.spec.channels, *(self.usual_size if size is None else size))
        return self.spec.clamp(torch.zeros(shape, dtype=torch.float32))


def tensor_of(array: np.ndarray, name: str) -> Tensor:
    """An array as a tensor, in the byte order of this machine.

    Raises:
        SignalError: if it holds anything but numbers that tensors hold.
    """
    try:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(array.shape))
    except (TypeError, ValueError) as error:
        raise SignalError(f"{name} is an array of {array.dtype}; expected numbers of up to 64 bits, such as float32") from error


def checked_values(batch: Tensor, spec: SignalSpec, name: str) -> Tensor:
    """A batch (B, C, *axes) as float32 in the spec's range.

    Raises:
        SignalError: if it has another shape, holds nothing, has another dtype, or values that are not finite or out of range.
    """
    if batch.ndim != 2 + len(spec.axes) or batch.shape[1] != spec.channels:
        raise SignalError(f"{name} has shape {tuple(batch.shape)}; expected {spec.shape}")
    if batch.numel() == 0:
        raise SignalError(f"{name} has shape {tuple(batch.shape)}: it is empty")
    if batch.dtype == torch.uint8 and (spec.low, spec.high) == (0.0, 1.0):
        return batch.to(torch.float32) / 255
    if not batch.is_floating_point():
        bytes_too = " or uint8" if (spec.low, spec.high) == (0.0, 1.0) else ""
        raise SignalError(f"{name} is {batch.dtype}; expected floats{_range(spec)}{bytes_too}")
    if torch.compiler.is_compiling():  # an exported program cannot branch on values
        return batch.to(torch.float32)
    values = batch.detach()
    low, high = (float(value) for value in torch.aminmax(values.to(torch.float32)))
    if low != low or high != high:
        raise SignalError(f"{name} holds NaN; expected values{_range(spec)}")
    slack = 1e-3 * (spec.peak or 1.0)
    below, above = spec.low is not None and low < spec.low - slack, spec.high is not None and high > spec.high + slack
    if below or above or low == -float("inf") or high == float("inf"):
        signed = (spec.low, spec.high) == (0.0, 1.0) and low >= -1.001 and high <= 1.001
        hint = "it looks like [-1, 1]: use (x + 1) / 2" if signed else "scale it first"
        raise SignalError(f"{name} has values in [{low:.4g}, {high:.4g}]; expected values{_range(spec)}: {hint}")
    return batch.to(torch.float32)


def as_items(signal: SignalLike | Sequence[SignalLike]) -> list[SignalLike]:
    """A list of signals, also of one.

    Raises:
        SignalError: if there is none.
    """
    items = list(signal) if isinstance(signal, Sequence) and not isinstance(signal, str | bytes) else [signal]
    if not items:
        raise SignalError("no signal was given")
    return items


def _range(spec: SignalSpec) -> str:
    if spec.low is None and spec.high is None:
        return ""
    return f" in [{'-inf' if spec.low is None else f'{spec.low:g}'}, {'inf' if spec.high is None else f'{spec.high:g}'}]"
