"""Where random draws come from: a torch generator, one stream per sample, or a recording.

Every function that draws takes a `NoiseLike` and reads it with `as_noise`. Draws are float32 whatever torch's default dtype, or float64 on request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float64)
"""Of draws: narrower types have too few values, and results must not depend on the type that a model computes in."""

MOST_FLOAT32_INTEGERS = 2**12
"""Up to so many integers, equally wide intervals of the 2^24 float32 draws differ in probability by less than one part in 4096."""


class Noise(Protocol):
    """A source of draws; the first axis of every shape is the batch."""

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws from U[0, 1)."""

    def exponential(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws from Exp(1), never 0."""

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws from N(0, 1)."""

    def permutation(self, samples: int, length: int) -> Tensor:
        """A permutation of 0, ..., length - 1 for each sample, all equally likely: (samples, length) int64."""


NoiseLike: TypeAlias = Noise | torch.Generator | None
"""What functions that draw accept; None means torch's global state."""


class GeneratorNoise:
    """Draws from one torch generator, whole batches at a time: fast, but a sample's draws depend on its batch.

    Args:
        generator: where to draw from, on its own device; None for torch's global state on `device`.
        device: where the draws are returned.
    """

    def __init__(self, generator: torch.Generator | None, device: torch.device) -> None:
        self.generator, self.device = generator, device
        self._source = device if generator is None else generator.device

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws from U[0, 1)."""
        return torch.rand(shape, generator=self.generator, dtype=_checked(dtype), device=self._source).to(self.device)

    def exponential(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws from Exp(1)."""
        return _positive(torch.empty(shape, dtype=_checked(dtype), device=self._source).exponential_(generator=self.generator)).to(self.device)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws from N(0, 1)."""
        return torch.randn(shape, generator=self.generator, dtype=_checked(dtype), device=self._source).to(self.device)

    def permutation(self, samples: int, length: int) -> Tensor:
        """(samples, length) int64."""
        return self.uniform(samples, length, dtype=torch.float64).argsort(dim=-1, stable=True)


class SampleNoise:
    """One stream of draws per sample, fixed by (seed, sample index): a sample's draws depend neither on its batch nor on the process.

    So results do not change with the batch size, and processes that each hold a part of a global batch draw what one process would.

    Args:
        seed: one integer or several, for example (seed, step); not negative.
        samples: index of every sample of the batch within the whole.
    """

    def __init__(self, seed: int | Sequence[int], samples: Iterable[int]) -> None:
        key = (seed,) if isinstance(seed, int) else tuple(seed)
        self.device = torch.device("cpu")
        self._streams = [_stream((*key, sample)) for sample in samples]

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws from U[0, 1), on the CPU."""
        draws = self._empty(shape, _checked(dtype))
        for row, stream in zip(draws, self._streams, strict=True):
            row.uniform_(generator=stream)
        return draws

    def exponential(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws from Exp(1), on the CPU."""
        draws = self._empty(shape, _checked(dtype))
        for row, stream in zip(draws, self._streams, strict=True):
            row.exponential_(generator=stream)
        return _positive(draws)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws from N(0, 1), on the CPU."""
        draws = self._empty(shape, _checked(dtype))
        for row, stream in zip(draws, self._streams, strict=True):
            row.normal_(generator=stream)
        return draws

    def permutation(self, samples: int, length: int) -> Tensor:
        """(samples, length) int64, on the CPU."""
        draws = self._empty((samples, length), torch.int64)
        for row, stream in zip(draws, self._streams, strict=True):
            torch.randperm(length, generator=stream, out=row)
        return draws

    def select(self, rows: Iterable[int]) -> SampleNoise:
        """The streams of some samples of the batch; they go on where they are."""
        part = SampleNoise(0, ())
        part._streams = [self._streams[row] for row in rows]
        return part

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if not shape or shape[0] != len(self._streams):
            raise ValueError(f"draws of shape {shape} were requested, but the first axis of this source is its {len(self._streams)} samples")
        return torch.empty(shape, dtype=dtype, device="cpu")


class RecordedNoise:
    """Plays back draws that were recorded elsewhere, in order; used to reproduce another system's samples.

    Args:
        uniform: tensors for the successive calls of `uniform`.
        exponential: tensors for the successive calls of `exponential`.
        normal: tensors for the successive calls of `normal`.
        permutation: tensors for the successive calls of `permutation`.
    """

    def __init__(
        self,
        *,
        uniform: Iterable[Tensor] = (),
        exponential: Iterable[Tensor] = (),
        normal: Iterable[Tensor] = (),
        permutation: Iterable[Tensor] = (),
    ) -> None:
        self._uniform, self._exponential, self._normal, self._permutation = iter(uniform), iter(exponential), iter(normal), iter(permutation)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """The next recorded uniform draw."""
        return _next(self._uniform, shape, "uniform").to(_checked(dtype))

    def exponential(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """The next recorded exponential draw."""
        return _next(self._exponential, shape, "exponential").to(_checked(dtype))

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """The next recorded normal draw."""
        return _next(self._normal, shape, "normal").to(_checked(dtype))

    def permutation(self, samples: int, length: int) -> Tensor:
        """The next recorded permutations."""
        return _next(self._permutation, (samples, length), "permutation").to(torch.int64)


def as_noise(source: NoiseLike, device: torch.device) -> Noise:
    """A source whose draws are on `device`, wherever `source` makes them; None draws from torch's global state.

    Raises:
        TypeError: if it is no such source, as a seed is none.
    """
    if source is None or isinstance(source, torch.Generator):
        return GeneratorNoise(source, device)
    if not any(hasattr(source, draw) for draw in ("uniform", "exponential", "normal", "permutation")):
        raise TypeError(f"noise {source!r} is no source of draws: give SampleNoise(seed, samples), or torch.Generator().manual_seed(seed)")
    lies_there = isinstance(source, GeneratorNoise | SampleNoise | _MovedNoise) and source.device == device
    return source if lies_there else _MovedNoise(source, device)


def selected(source: NoiseLike, rows: Tensor) -> NoiseLike:
    """The source for a part of a batch, `rows` (n,) int64 of it: per-sample streams are chosen, any other source draws part after part."""
    if isinstance(source, _MovedNoise):
        return _MovedNoise(selected(source.source, rows), source.device)  # type: ignore[arg-type]
    return source.select(rows.tolist()) if isinstance(source, SampleNoise) else source


def for_parts(source: NoiseLike, parts: int) -> NoiseLike:
    """The source for the parts of every sample, such as the frames of clips: (B * parts, ...) draws, those of a sample from its own stream."""
    return source if source is None or isinstance(source, torch.Generator) or parts == 1 else _PartsNoise(source, parts)


def integers(noise: Noise, high: int, *shape: int) -> Tensor:
    """Integers (*shape) int64 from 0 to high - 1, equally likely: floor(u * high) for uniform draws u.

    Raises:
        ValueError: if there is no such integer.
    """
    if high < 1:
        raise ValueError(f"integers below {high} do not exist: high must be at least 1")
    uniform = noise.uniform(*shape, dtype=torch.float32 if high <= MOST_FLOAT32_INTEGERS else torch.float64)
    return (uniform * high).long().clamp_max(high - 1)


class _MovedNoise:
    """Draws of `source`, on `device`."""

    def __init__(self, source: Noise, device: torch.device) -> None:
        self.source, self.device = source, device

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.source.uniform(*shape, dtype=dtype).to(self.device)

    def exponential(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.source.exponential(*shape, dtype=dtype).to(self.device)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.source.normal(*shape, dtype=dtype).to(self.device)

    def permutation(self, samples: int, length: int) -> Tensor:
        return self.source.permutation(samples, length).to(self.device)


class _PartsNoise:
    """Draws of `source` for `parts` parts of every sample."""

    def __init__(self, source: Noise, parts: int) -> None:
        self.source, self.parts = source, parts

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.source.uniform(*self._parted(shape), dtype=dtype).flatten(0, 1)

    def exponential(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.source.exponential(*self._parted(shape), dtype=dtype).flatten(0, 1)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.source.normal(*self._parted(shape), dtype=dtype).flatten(0, 1)

    def permutation(self, samples: int, length: int) -> Tensor:
        drawn = [self.source.permutation(samples // self.parts, length) for _ in range(self.parts)]
        return torch.stack(drawn, dim=1).flatten(0, 1)

    def _parted(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0] // self.parts, self.parts, *shape[1:])


def _positive(draws: Tensor) -> Tensor:
    """The smallest draws are rounded to 0, by which nothing can be divided."""
    return draws.clamp_min_(torch.finfo(draws.dtype).tiny)


def _checked(dtype: torch.dtype) -> torch.dtype:
    if dtype not in DTYPES:
        raise ValueError(f"draws are {' or '.join(map(str, DTYPES))}, not {dtype}; convert them where they are used")
    return dtype


def _stream(key: tuple[int, ...]) -> torch.Generator:
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)


def _next(draws: Iterator[Tensor], shape: tuple[int, ...], name: str) -> Tensor:
    draw = next(draws, None)
    if draw is None:
        raise ValueError(f"the recording of {name} draws is used up: another one of shape {shape} was requested")
    if tuple(draw.shape) != shape:
        raise ValueError(f"the next recorded {name} draw has shape {tuple(draw.shape)}, but {shape} was requested")
    return draw
