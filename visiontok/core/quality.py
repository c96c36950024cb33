"""How good a reconstruction must be, and the search for the fewest tokens that make it so: `tokenizer.encode(x, target=Psnr(24))`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class QualityTarget(ABC):
    """What a reconstruction must reach, sample by sample."""

    def rows(self, rows: Tensor) -> QualityTarget:
        """The target of some samples of a batch; targets with a number per sample override this."""
        return self

    @abstractmethod
    def reached(self, signal: Tensor, reconstruction: Tensor) -> Tensor:
        """(B,) bool for two batches (B, ...) in [0, 1]."""


@dataclass(frozen=True)
class Psnr(QualityTarget):
    """A peak signal-to-noise ratio of at least `decibels`, on values in [0, 1]; higher is better.

    Raises:
        ValueError: if `decibels` is not a finite number.
    """

    decibels: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.decibels):
            raise ValueError(f"a target of {self.decibels} dB cannot be searched for; give a finite number such as 24")

    def reached(self, signal: Tensor, reconstruction: Tensor) -> Tensor:
        # Half precision ends at 1e-7, which would turn 70 dB into infinity.
        error = (signal.double() - reconstruction.double()).square().flatten(1).mean(dim=1)
        return error <= 10 ** (-self.decibels / 10)


@dataclass(frozen=True)
class MeanAbsoluteError(QualityTarget):
    """A mean absolute error of at most `error`, one number or (B,); lower is better. KARL knows the length for it from one pass.

    Raises:
        ValueError: if `error` is negative or not finite.
    """

    error: float | Tensor

    def __post_init__(self) -> None:
        error = torch.as_tensor(self.error, dtype=torch.float64)
        if error.ndim > 1 or not bool((error.isfinite() & (error >= 0)).all()):
            raise ValueError(f"a target of a mean absolute error of {self.error} cannot be searched for; give a number such as 0.05")

    def rows(self, rows: Tensor) -> MeanAbsoluteError:
        return MeanAbsoluteError(self.error[rows]) if isinstance(self.error, Tensor) and self.error.ndim else self

    def reached(self, signal: Tensor, reconstruction: Tensor) -> Tensor:
        lost = (signal.double() - reconstruction.double()).abs().flatten(1).mean(dim=1)
        return lost <= torch.as_tensor(self.error, dtype=torch.float64, device=lost.device)


def shortest_lengths(reached: Callable[[Tensor], Tensor], lengths: Sequence[int], *, batch: int) -> Tensor:
    """Per sample, the shortest length that reaches a target, by bisection over all samples at once.

    Assumes that quality rises with length. Where it does not, a sample gets a length that reaches the target, though perhaps not the shortest one.
    A sample that never reaches it gets the longest. Asks `reached` once for the longest length, then about log2(number of lengths) times.

    Args:
        reached: (B,) int64 lengths -> (B,) bool.
        lengths: the candidates, rising.
        batch: number of samples B.

    Returns:
        (B,) int64, on the CPU.
    """
    candidates = torch.as_tensor(lengths, dtype=torch.int64)
    low = torch.zeros(batch, dtype=torch.int64)
    high = torch.full((batch,), len(candidates) - 1)  # always a length that reaches, or the longest
    low[~reached(candidates[high]).cpu()] = len(candidates) - 1
    while bool((low < high).any()):
        middle = (low + high) // 2
        good = reached(candidates[middle]).cpu()
        high = torch.where(good & (low < high), middle, high)
        low = torch.where(~good & (low < high), middle + 1, low)
    return candidates[high]
