"""A batch of signals of different sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from visiontok.base.errors import SignalError


@dataclass(frozen=True, eq=False)
class SignalBatch:
    """Preprocessed signals.

    Attributes:
        values: (B, C, *axes) floats; zeros beyond a sample's size.
        sizes: (B, A) int64 exact size of every sample along each axis, on the CPU.
        fills: whether all are known to have the size of the tensor, so that `sizes` need not be read.
    """

    values: Tensor
    sizes: Tensor
    fills: bool = False

    def __post_init__(self) -> None:
        axes = self.values.ndim - 2
        if self.sizes.shape != (len(self.values), axes) or self.sizes.dtype != torch.int64:
            raise SignalError(f"sizes must be int64 of shape ({len(self.values)}, {axes}), got {self.sizes.dtype} {tuple(self.sizes.shape)}")

    @classmethod
    def of(cls, values: Tensor) -> SignalBatch:
        """Signals (B, C, *axes) that all fill the tensor."""
        return cls(values, torch.tensor(values.shape[2:], dtype=torch.int64).expand(len(values), -1), fills=True)

    @classmethod
    def stack(cls, signals: Sequence[Tensor]) -> SignalBatch:
        """Signals (C, *axes) of any sizes, one or more."""
        sizes = torch.tensor([signal.shape[1:] for signal in signals], dtype=torch.int64)
        largest = sizes.amax(dim=0).tolist()
        return cls(torch.stack([_padded(signal, largest) for signal in signals]), sizes)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Tensor) -> SignalBatch:
        """A sub-batch."""
        if not isinstance(rows, slice | Tensor):
            raise TypeError(f"index a batch with a slice or a tensor, not {type(rows).__name__}; use batch[i:i + 1] for one sample")
        return SignalBatch(self.values[rows.to(self.values.device) if isinstance(rows, Tensor) else rows], self.sizes[rows], self.fills)

    def __iter__(self) -> Iterator[Tensor]:
        """Each signal (C, *axes) at its exact size."""
        for values, size in zip(self.values, self.sizes.tolist(), strict=True):
            yield cropped(values[None], size)[0]

    @property
    def is_even(self) -> bool:
        """Whether all signals have one size, so that nothing is padding."""
        return self.fills or self.sizes.tolist() == [list(self.values.shape[2:])] * len(self)

    def groups(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows (n,) of signals of one size, and those signals (n, C, *axes), without padding; every sample comes once."""
        if self.is_even:
            yield torch.arange(len(self)), self.values
            return
        sizes, group = torch.unique(self.sizes, dim=0, return_inverse=True)
        for number, size in enumerate(sizes.tolist()):
            rows = torch.nonzero(group == number).flatten()
            values = self.values[rows.to(self.values.device)]
            yield rows, cropped(values, size)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> SignalBatch:
        """The same signals elsewhere, perhaps in another precision."""
        return SignalBatch(self.values.to(device=device, dtype=dtype), self.sizes, self.fills)


def cropped(values: Tensor, size: Sequence[int]) -> Tensor:
    """Signals (B, C, *axes) cut to their first `size` units along each axis."""
    first = (slice(None), slice(None), *(slice(extent) for extent in size))
    return values[first]


def _padded(signal: Tensor, size: Sequence[int]) -> Tensor:
    amounts = [(0, extent - own) for extent, own in zip(size, signal.shape[1:], strict=True)]
    return pad(signal, [amount for pair in reversed(amounts) for amount in pair]) if any(most for _, most in amounts) else signal
