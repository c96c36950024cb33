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

    def batch(self, lengths: Tensor, steps: int) -> GenerationSteps:
        """The first steps of samples (B,) that hold so many tokens of one sample's storage: (B, steps, K)."""
        fields = {name: getattr(self, name)[:steps].expand(len(lengths), *(-1,) * getattr(self, name).ndim) for name in self.__dataclass_fields__}
        return GenerationSteps(**{**fields, "held": fields["held"] & (fields["positions"] < lengths[:, None, None])})

    def step(self, number: int) -> GenerationSteps:
        """One step of one sample, (K,)."""
        return GenerationSteps(*(getattr(self, name)[number] for name in GenerationSteps.__dataclass_fields__))

    def steps(self, count: int) -> Iterator[GenerationSteps]:
        """The first steps of one sample, (K,) each."""
        return map(self.step, range(count))


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
    with torch.device("cpu"):  # the result is kept for later callers, whatever device this one builds on
        stored, coordinates = _stored(layout, within)
        order = torch.from_numpy(layout.generation_order.copy())
        if pattern == "flatten":
            picked, held = order[:, None], torch.ones(layout.length, 1, dtype=torch.bool)
            where = coordinates[order]
        else:
            own, count = (max(segment.codebooks for segment in each.segments) for each in (layout, within))
            firsts = order[stored[3][order] == 0]  # the first codebook of every position, in generation order
            late = own - 1 if pattern == "delay" else 0
            picked, held = torch.zeros(len(firsts) + late, count, dtype=torch.int64), torch.zeros(len(firsts) + late, count, dtype=torch.bool)
            for codebook in range(own):
                begin = codebook if pattern == "delay" else 0
                picked[begin : begin + len(firsts), codebook] = firsts + codebook
                held[begin : begin + len(firsts), codebook] = True
            beyond = coordinates[firsts[-1:]] + torch.arange(1, late + 1)[:, None]
            where = torch.cat([coordinates[firsts], beyond])
        positions, first, sizes, codebooks = (values[picked].masked_fill(~held, 0) for values in stored)
        return GenerationSteps(positions, first, sizes, codebooks, where, held)


def _stored(layout: TokenLayout, within: TokenLayout) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Of every storage position, (L,) each: itself, the first row of its codebook, the codes of that, its level; and (L, A) coordinates."""
    axes = max(len(segment.shape) for segment in within.segments)
    has_levels = max(segment.codebooks for segment in within.segments) > 1
    first, sizes, levels, coordinates = [], [], [], []
    for number, (segment, whole) in enumerate(zip(layout.segments, within.segments, strict=False)):
        codebook = np.arange(segment.length, dtype=np.int64) % segment.codebooks
        zeros = np.zeros_like(codebook)
        first.append(zeros if layout.is_continuous else within.codebook_rows[number][codebook])
        sizes.append(zeros if layout.is_continuous else np.asarray(whole.vocab_sizes, dtype=np.int64)[codebook])
        levels.append(codebook if has_levels else zeros + number)
        grid = grid_positions(segment.shape).repeat_interleave(segment.codebooks, dim=0)
        coordinates.append(F.pad(grid, (0, axes - len(segment.shape))))
    columns = (torch.from_numpy(np.concatenate(each)) for each in (first, sizes, levels))
    return (torch.arange(layout.length, dtype=torch.int64), *columns), torch.cat(coordinates)  # type: ignore[return-value]


def batch_generation_steps(tokens: Tokens | Latents, within: TokenLayout, pattern: Pattern) -> GenerationSteps:
    """The steps of every sample of a batch: (B, T, K).

    Raises:
        TokenError: if a sample keeps a subset at its positions, or holds only some of a layout whose generation order is not its storage order.
    """
    if tokens.positions is not None and bool(
        ((tokens.positions != torch.arange(tokens.positions.shape[1], device=tokens.data.device)) & tokens.mask).any()
    ):
        raise TokenError("samples that keep tokens at positions of their own cannot be modelled one after the other: keep prefixes")
    if not tokens.is_full and not tokens.layout.is_in_storage_order:
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


def masked_positions(samples: int, length: int, *, least: float, noise: Noise) -> Tensor:
    """Random positions to mask (B, L) bool, for training: a share of every sample from a normal distribution at 1 with the deviation 0.25, cut
    off at `least` and 1 (MAGE, arXiv 2211.09117), rounded up.

    MAR draws one share for a whole batch; here every sample has its own, so that its draws do not depend on the others.

    Draws: uniform (B,) for the share, then permutations (B, L), whose first positions are masked.
    """
    lowest = torch.special.ndtr(torch.tensor((least - 1) / 0.25, dtype=torch.float64))
    uniform = noise.uniform(samples).double()
    share = 1 + 0.25 * torch.special.ndtri(lowest.to(uniform.device) + uniform * (0.5 - lowest.to(uniform.device)))
    count = (length * share).ceil().clamp(1, length)
    order = noise.permutation(samples, length)
    ranks = torch.arange(length, device=order.device).expand_as(order)
    return torch.zeros_like(order, dtype=torch.bool).scatter(1, order, ranks < count.to(order.device)[:, None])


def at_positions(values: Tensor, positions: Tensor) -> Tensor:
    """(B, L, D) at positions (B, M) int64 -> (B, M, D)."""
    return values.gather(1, positions[..., None].expand(-1, -1, values.shape[2]))
