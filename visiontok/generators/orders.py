"""What every step of generation writes: which positions, in which order, with how many codebooks at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, TypeAlias

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.base.errors import TokenError
from visiontok.base.noise import Noise
from visiontok.layers.rope import grid_positions
from visiontok.tokens import Latents, TokenLayout, Tokens

Pattern: TypeAlias = Literal["flatten", "parallel", "delay"]
"""How the codebooks of a position are written (arXiv 2306.05284): `flatten` one after the other, a step each; `parallel` all in one step, by a
head that predicts them together; `delay` codebook k of a position k steps after its first one, so that a step writes one codebook each of
neighboring positions."""


@dataclass(frozen=True)
class GenerationSteps:
    """The steps of samples of one extent, or of a batch, in generation order; K tokens per step.

    Attributes:
        positions: (T, K) or (B, T, K) int64 storage positions.
        first: the row at which the codebook of every token begins in the table of all codebooks; 0 for latents.
        sizes: the codes of that codebook; 0 for latents.
        codebooks: the codebook level of every token, or the number of its segment where positions have one codebook each.
        coordinates: (T, A) or (1 or B, T, A) int64 where the position lies within its segment, with zeros where a segment has fewer axes.
        held: bool: False where a step writes nothing.
    """

    positions: Tensor
    first: Tensor
    sizes: Tensor
    codebooks: Tensor
    coordinates: Tensor
    held: Tensor

    def to(self, device: torch.device) -> GenerationSteps:
        """On another device."""
        return GenerationSteps(*(getattr(self, name).to(device) for name in GenerationSteps.__dataclass_fields__))

    def steps(self, count: int) -> Iterator[GenerationSteps]:
        """The first steps of one sample, (K,) each."""
        for step in range(count):
            yield GenerationSteps(*(getattr(self, name)[step] for name in GenerationSteps.__dataclass_fields__))


class AnnealedOrder(Config):
    """Random generation orders that give way to the layout's own over training (RAR, arXiv 2411.00776).

    Attributes:
        anneal_start: the training step until which every sample has a random order.
        anneal_end: the step from which every sample has the layout's own; in between the probability falls linearly.
    """

    anneal_start: Annotated[int, Field(ge=0)] = 0
    anneal_end: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check(self) -> AnnealedOrder:
        if self.anneal_start > self.anneal_end:
            raise ValueError(f"anneal_end {self.anneal_end} is before anneal_start {self.anneal_start}")
        return self

    def probability(self, step: int) -> float:
        """Of a random order at a training step."""
        if step < self.anneal_start:
            return 1.0
        return 0.0 if step >= self.anneal_end else (self.anneal_end - step) / (self.anneal_end - self.anneal_start)

    def draw(self, own: Tensor, samples: int, noise: Noise, *, step: int) -> Tensor:
        """(samples, L) int64 orders, where the layout's own is (L,); a uniform draw (samples,), then permutations, unless all are its own."""
        probability = self.probability(step)
        if probability == 0:
            return own.expand(samples, -1)
        is_random = noise.uniform(samples).to(own.device) < probability
        return torch.where(is_random[:, None], noise.permutation(samples, len(own)).to(own.device), own)


def cell_order(shape: Sequence[int], cells: Sequence[int]) -> Tensor:
    """(N,) int64: the row-major positions of a grid, cell after cell, row-major over the cells and within each.

    Args:
        shape: of the grid.
        cells: along each axis of the grid; divides its size.
    """
    axes = len(shape)
    split = [part for size, count in zip(shape, cells, strict=True) for part in (count, size // count)]
    grid = torch.arange(math.prod(shape)).view(split)
    return grid.permute(*range(0, 2 * axes, 2), *range(1, 2 * axes, 2)).flatten()


def check_pattern(layout: TokenLayout, pattern: Pattern) -> None:
    """Refuse a layout whose codebooks cannot be written so.

    Raises:
        ValueError: naming the numbers of codebooks.
    """
    counts = sorted({segment.codebooks for segment in layout.segments})
    if pattern != "flatten" and (layout.is_continuous or counts == [1] or len(counts) > 1):
        raise ValueError(f"the pattern {pattern!r} needs several codebooks per position, as many in every segment; this layout has {counts}")
    if pattern == "delay" and (len(layout.segments) > 1 or len(layout.segments[0].shape) > 1):
        raise ValueError(f"the pattern 'delay' needs one segment with one axis; this layout has the extents {layout.extents}")


@lru_cache(maxsize=256)
def generation_steps(layout: TokenLayout, within: TokenLayout, pattern: Pattern) -> GenerationSteps:
    """The steps of a full sample.

    Args:
        layout: of the sample; perhaps with fewer codebook levels than the generator's.
        within: the generator's layout, whose codebooks lie in one table.
        pattern: how codebooks are written.
    """
    axes = max(len(segment.shape) for segment in within.segments)
    coordinates = [F.pad(grid_positions(segment.shape), (0, axes - len(segment.shape))) for segment in layout.segments]
    count = max(segment.codebooks for segment in within.segments)
    columns = []  # per storage position: storage position, row of the codebook, its size, its number, row of its coordinates
    start, place = 0, 0
    for number, (segment, whole) in enumerate(zip(layout.segments, within.segments, strict=False)):
        position, codebook = np.divmod(np.arange(segment.length, dtype=np.int64), segment.codebooks)
        zeros = np.zeros_like(position)
        rows = zeros if layout.is_continuous else within.codebook_rows[number][codebook]
        sizes = zeros if layout.is_continuous else np.asarray(whole.vocab_sizes, dtype=np.int64)[codebook]
        columns.append(
            np.stack([start + zeros + np.arange(segment.length), rows, sizes, codebook if count > 1 else zeros + number, place + position])
        )
        start, place = start + segment.length, place + segment.num_positions
    ordered = torch.from_numpy(np.concatenate(columns, axis=1)[:, layout.generation_order])
    where = torch.cat(coordinates)[ordered[4]]
    if pattern == "flatten":
        held = torch.ones(layout.length, 1, dtype=torch.bool)
        return GenerationSteps(*ordered[:4, :, None], where, held)
    of_first = ordered[3] == 0
    own = layout.segments[0].codebooks
    table = ordered[:4, of_first]  # the first codebook of every position, in generation order
    steps = int(of_first.sum()) + (own - 1 if pattern == "delay" else 0)
    fields, held = torch.zeros(4, steps, count, dtype=torch.int64), torch.zeros(steps, count, dtype=torch.bool)
    lookup = torch.from_numpy(np.concatenate(columns, axis=1))
    for codebook in range(own):
        begin = codebook if pattern == "delay" else 0
        fields[:, begin : begin + table.shape[1], codebook] = lookup[:4, table[0] + codebook]
        held[begin : begin + table.shape[1], codebook] = True
    coordinates_of = where[of_first]
    if steps > len(coordinates_of):
        beyond = torch.arange(1, steps - len(coordinates_of) + 1)[:, None]
        coordinates_of = torch.cat([coordinates_of, coordinates_of[-1:] + beyond])
    return GenerationSteps(*fields, coordinates_of, held)


def batch_generation_steps(tokens: Tokens | Latents, within: TokenLayout, pattern: Pattern) -> GenerationSteps:
    """The steps of every sample of a batch: (B, T, K).

    Raises:
        TokenError: if a sample keeps a subset at its positions, or is a prefix of a layout whose generation order is not its storage order.
    """
    if tokens.positions is not None and bool(
        ((tokens.positions != torch.arange(tokens.positions.shape[1], device=tokens.data.device)) & tokens.mask).any()
    ):
        raise TokenError("samples that keep tokens at positions of their own cannot be modelled one after the other: keep prefixes")
    if not tokens.is_full and tokens.layout.order != "raster":
        raise TokenError("samples that hold only some tokens cannot be modelled where the layout has a generation order of its own")
    device, samples = tokens.data.device, len(tokens)
    groups = [(rows, generation_steps(group.layout, within, pattern).to(device)) for rows, group in tokens.groups()]
    steps, columns = max(len(plan.held) for _, plan in groups), groups[0][1].held.shape[1]
    fields = torch.zeros(4, samples, steps, columns, dtype=torch.int64, device=device)
    held = torch.zeros(samples, steps, columns, dtype=torch.bool, device=device)
    coordinates = torch.zeros(samples, steps, groups[0][1].coordinates.shape[-1], dtype=torch.int64, device=device)
    for rows, plan in groups:
        count = len(plan.held)
        for target, values in zip(fields, (plan.positions, plan.first, plan.sizes, plan.codebooks), strict=True):
            target[rows, :count] = values
        coordinates[rows, :count] = plan.coordinates
        held[rows, :count] = plan.held & (plan.positions < tokens.sample_lengths[rows, None, None])
    last = int(held.any(dim=(0, 2)).nonzero().max()) + 1
    positions, first, sizes, codebooks = fields[:, :, :last]
    held = held[:, :last]
    coordinates = coordinates[:1, :last] if len(groups) == 1 else coordinates[:, :last]
    return GenerationSteps(positions.masked_fill(~held, 0), first, sizes, codebooks, coordinates, held)
