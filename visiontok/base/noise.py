"""Where random draws come from: a torch generator, one stream per sample, or a recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor


class Noise(Protocol):
    """A source of float32 draws; the first axis of every shape is the batch."""

    def uniform(self, *shape: int) -> Tensor:
        """Draws from U[0, 1)."""

    def exponential(self, *shape: int) -> Tensor:
        """Draws from Exp(1)."""


NoiseLike: TypeAlias = Noise | torch.Generator | None
"""What functions that draw accept; None means torch's global state."""


class GeneratorNoise:
    """Draws from one torch generator, whole batches at a time: fast, but a sample's draws depend on its batch.

    Args:
        generator: where to draw from; None for torch's global state.
        device: where the draws lie; must be the generator's.
    """

    def __init__(self, generator: torch.Generator | None, device: torch.device) -> None:
        self.generator, self.device = generator, device

    def uniform(self, *shape: int) -> Tensor:
        """Draws from U[0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.device)

    def exponential(self, *shape: int) -> Tensor:
        """Draws from Exp(1)."""
        return torch.empty(shape, device=self.device).exponential_(generator=self.generator)


class SampleNoise:
    """One stream of draws per sample, fixed by (seed, sample number): a sample's draws depend neither on its batch nor on the process.

    So pictures do not change with the batch size, and processes that each hold a part of a global batch draw what one process would.

    Args:
        seed: one number or several, for example (seed, step); not negative.
        samples: number of every sample of the batch within the whole.
    """

    def __init__(self, seed: int | Sequence[int], samples: Iterable[int]) -> None:
        key = (seed,) if isinstance(seed, int) else tuple(seed)
        self._streams = [_stream((*key, sample)) for sample in samples]

    def uniform(self, *shape: int) -> Tensor:
        """Draws from U[0, 1), on the CPU."""
        draws = self._empty(shape)
        for row, stream in zip(draws, self._streams, strict=True):
            row.uniform_(generator=stream)
        return draws

    def exponential(self, *shape: int) -> Tensor:
        """Draws from Exp(1), on the CPU."""
        draws = self._empty(shape)
        for row, stream in zip(draws, self._streams, strict=True):
            row.exponential_(generator=stream)
        return draws

    def _empty(self, shape: tuple[int, ...]) -> Tensor:
        if shape[0] != len(self._streams):
            raise ValueError(f"a batch of {shape[0]} asked for draws, but this source was made for {len(self._streams)} samples")
        return torch.empty(shape)


class RecordedNoise:
    """Plays back draws that were recorded elsewhere, in order; used to reproduce another system's samples.

    Args:
        uniform: tensors for the successive calls of `uniform`.
        exponential: tensors for the successive calls of `exponential`.
    """

    def __init__(self, *, uniform: Iterable[Tensor] = (), exponential: Iterable[Tensor] = ()) -> None:
        self._uniform, self._exponential = iter(uniform), iter(exponential)

    def uniform(self, *shape: int) -> Tensor:
        """The next recorded uniform draw."""
        return _next(self._uniform, shape, "uniform")

    def exponential(self, *shape: int) -> Tensor:
        """The next recorded exponential draw."""
        return _next(self._exponential, shape, "exponential")


def as_noise(source: NoiseLike, device: torch.device) -> Noise:
    """The source itself, or one that draws from a torch generator (on its device) or from torch's global state (on `device`)."""
    if source is None:
        return GeneratorNoise(None, device)
    if isinstance(source, torch.Generator):
        return GeneratorNoise(source, source.device)
    return source


def _stream(key: tuple[int, ...]) -> torch.Generator:
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)


def _next(draws: Iterator[Tensor], shape: tuple[int, ...], name: str) -> Tensor:
    draw = next(draws, None)
    if draw is None:
        raise ValueError(f"the recording of {name} draws is used up: another one of shape {shape} was asked for")
    if tuple(draw.shape) != shape:
        raise ValueError(f"the next recorded {name} draw has shape {tuple(draw.shape)}, but {shape} was asked for")
    return draw
