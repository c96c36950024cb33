"""The steps of generation: which position each of them generates, from which codebook."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from visiontok.base.errors import TokenError
from visiontok.layers.rope import grid_positions
from visiontok.tokens import Latents, TokenLayout, Tokens


@dataclass(frozen=True)
class GenerationSteps:
    """The steps of samples of one extent, or of a batch, in generation order.

    Attributes:
        positions: (L,) or (B, T) int64 storage position of every step.
        first: the row at which the codebook of every step begins in the table of all codebooks; 0 for latents.
        sizes: the codes of that codebook; 0 for latents.
        coordinates: (L, A) or (B, T, A) int64 where the position lies within its segment, with zeros where a segment has fewer axes.
        held: (L,) or (B, T) bool: False beyond a sample's length.
    """

    positions: Tensor
    first: Tensor
    sizes: Tensor
    coordinates: Tensor
    held: Tensor


@lru_cache(maxsize=256)
def generation_steps(layout: TokenLayout) -> GenerationSteps:
    """The steps of a full sample of a layout."""
    axes = max(len(segment.shape) for segment in layout.segments)
    parts = []
    for segment in layout.segments:
        grid = grid_positions(segment.shape).repeat_interleave(segment.codebooks, dim=0)
        parts.append(torch.nn.functional.pad(grid, (0, axes - grid.shape[1])))
    order = torch.from_numpy(layout.generation_order.copy())
    zeros = torch.zeros(layout.length, dtype=torch.int64)
    first = zeros if layout.is_continuous else torch.from_numpy(layout.code_offsets)
    sizes = zeros if layout.is_continuous else torch.from_numpy(layout.vocab_sizes)
    return GenerationSteps(order, first[order], sizes[order], torch.cat(parts)[order], torch.ones(layout.length, dtype=torch.bool))


def batch_generation_steps(tokens: Tokens | Latents) -> GenerationSteps:
    """The steps of every sample of a batch: (B, T).

    Raises:
        TokenError: if a sample keeps a subset at its positions, or is a prefix of a layout whose generation order is not its storage order.
    """
    if tokens.positions is not None and bool(
        ((tokens.positions != torch.arange(tokens.positions.shape[1], device=tokens.data.device)) & tokens.mask).any()
    ):
        raise TokenError("samples that keep tokens at positions of their own cannot be modelled one after the other: keep prefixes")
    if not tokens.is_full and tokens.layout.order != "raster":
        raise TokenError("samples that hold only some tokens cannot be modelled where the layout has a generation order of its own")
    samples, steps = len(tokens), int(tokens.sample_lengths.max())
    device = tokens.data.device
    groups = [(rows, generation_steps(group.layout)) for rows, group in tokens.groups()]
    axes = groups[0][1].coordinates.shape[-1]
    positions, first, sizes = (torch.zeros(samples, steps, dtype=torch.int64, device=device) for _ in range(3))
    coordinates = torch.zeros(samples, steps, axes, dtype=torch.int64, device=device)
    for rows, ordered in groups:
        count = min(steps, len(ordered.positions))
        for target, values in ((positions, ordered.positions), (first, ordered.first), (sizes, ordered.sizes), (coordinates, ordered.coordinates)):
            target[rows, :count] = values[:count].to(device)
    held = torch.arange(steps, device=device) < tokens.sample_lengths[:, None]
    return GenerationSteps(positions.masked_fill(~held, 0), first, sizes, coordinates, held)
