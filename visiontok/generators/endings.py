"""Samples that end by themselves: one code more, END, which says at the first token of a step that nothing follows.

END is the last code of the first codebook of the first segment, and its row in the table of all codebooks follows that codebook's; the rows of all
other codebooks move by one. A sample cannot be empty, so no first step ends it, and one as long as the generator's layout needs no END: the
probabilities of all samples of all lengths sum to 1.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.errors import TokenError
from visiontok.generators.orders import GenerationSteps, Pattern, batch_generation_steps, generation_steps
from visiontok.tokens import Latents, TokenLayout, Tokens


def check_has_end(layout: TokenLayout, pattern: Pattern) -> None:
    """Refuse a layout whose samples all have one length, or whose shorter samples are not the first steps of longer ones.

    Raises:
        ValueError: naming what does not fit.
    """
    if layout.is_continuous or pattern == "delay":
        raise ValueError(f"has_end needs tokens and the pattern 'flatten' or 'parallel', not {'latents' if layout.is_continuous else repr(pattern)}")
    if layout.ragged == layout.is_variable:
        raise ValueError("has_end needs a layout that is either ragged or has free axes: samples of others all have one length")
    if layout.ragged and (len(layout.segments) > 1 or layout.order != "raster"):
        raise ValueError(f"has_end needs ragged layouts of one segment in the order 'raster'; this one has {len(layout.segments)}, {layout.order!r}")
    if layout.is_variable:
        orders = ("raster",) if len(layout.segments) == 1 else ("depth-first", "interleaved")
        if any(segment.free_axes != (0,) or len(segment.shape) > 1 for segment in layout.segments) or layout.order not in orders:
            raise ValueError(
                f"has_end needs segments with one axis, which is free, in the order {' or '.join(map(repr, orders))}; this layout has the extents "
                f"{layout.extents} and the order {layout.order!r}"
            )


def end_code(layout: TokenLayout) -> int:
    """The code that stands for the end."""
    return layout.segments[0].vocab_sizes[0]


def may_end(plan: GenerationSteps, layout: TokenLayout) -> Tensor:
    """(T,) bool: before which steps of a sample of a layout a shorter one is complete."""
    first = layout.segments[0]
    units = first.num_positions if layout.ragged else math.gcd(*layout.extents)
    position = plan.positions[:, 0]
    found = (position < first.length) & (position % (first.length // units) == 0)
    found[0] = False
    return found


def with_end(plan: GenerationSteps, layout: TokenLayout) -> GenerationSteps:
    """The steps (T, K) of a full sample of a layout, with END among the codes that may be written."""
    sizes = plan.sizes.clone()
    sizes[:, 0] += may_end(plan, layout)
    return replace(plan, first=plan.first + (plan.first > 0), sizes=sizes)


def batch_steps_with_end(tokens: Tokens | Latents, within: TokenLayout, pattern: Pattern) -> tuple[GenerationSteps, Tensor]:
    """The steps of every sample of a batch, END included: (B, T, K); and (B, T, K) bool, True where a token is END.

    Raises:
        TokenError: if a sample is longer than the generator's layout, or ends where none can.
    """
    largest = within.with_levels(within.levels_of(tokens.layout) or within.num_levels)
    lengths = tokens.sample_lengths
    if tokens.layout.is_variable and not tokens.is_full:
        raise TokenError("samples that hold only some tokens of their extents do not show where they end")
    if int(lengths.max()) > largest.length:
        raise TokenError(f"a sample of {int(lengths.max())} tokens is longer than the {largest.length} that this generator was built for")
    plan, device = batch_generation_steps(tokens, within, pattern), tokens.data.device
    # Shorter samples are the first steps of longer ones, so that all but their storage positions are those of the longest.
    full = with_end(generation_steps(largest, within, pattern), largest).to(device)
    counts = plan.held.any(dim=-1).sum(dim=-1)
    ends_well = F.pad(may_end(full, largest), (0, 1), value=True)[counts] & (plan.held.all(dim=-1) == plan.held.any(dim=-1)).all(dim=-1)
    if not bool(ends_well.all()):
        row = int((~ends_well).nonzero()[0])
        raise TokenError(f"sample {row} ends after {int(lengths[row])} tokens, within a position")
    steps, samples, columns = min(plan.held.shape[1] + 1, len(full.held)), len(tokens), plan.held.shape[2]
    added = steps - plan.held.shape[1]
    ends = torch.zeros(samples, steps, columns, dtype=torch.bool, device=device)
    ends[:, :, 0] = torch.arange(steps, device=device) == counts[:, None]
    first, sizes, codebooks = (getattr(full, name)[:steps].expand(samples, -1, -1) for name in ("first", "sizes", "codebooks"))
    positions, held = (F.pad(values, (0, 0, 0, added)) for values in (plan.positions, plan.held))
    return GenerationSteps(positions, first, sizes, codebooks, full.coordinates[None, :steps], held | ends), ends


def ended_samples(data: Tensor, counts: Tensor, layout: TokenLayout, within: TokenLayout, pattern: Pattern) -> Tokens:
    """The samples that were written within the storage of a longer one.

    Args:
        data: (B, L) int64 in the storage positions of `layout`.
        counts: (B,) steps of every sample.
        layout: of the longest sample.
        within: the generator's.
        pattern: how codebooks are written.
    """
    plan = generation_steps(layout, within, pattern)
    samples, extents = [], []
    for row, count in zip(data.cpu(), counts.tolist(), strict=True):
        written = row[plan.positions[:count].flatten()]
        own = layout if layout.ragged else layout.at_length(len(written))
        stored = generation_steps(own, within, pattern).positions[:count].flatten()
        samples.append(torch.empty_like(written).scatter_(0, stored, written))
        extents.append(own.extents)
    return Tokens.from_samples(samples, layout, extents=None if layout.ragged else torch.tensor(extents, dtype=torch.int64)).to(data.device)
