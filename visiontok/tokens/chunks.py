"""Tokens of one long signal in chunks along its first axis, time, and as one batch again; and tokens of several clips with their boundaries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from visiontok.base.errors import TokenError
from visiontok.tokens.batch import CLIPS, SIGNAL_SIZE, SampleBatch
from visiontok.tokens.layout import TokenLayout

BatchT = TypeVar("BatchT", bound=SampleBatch)


def split_chunks(tokens: BatchT, units: int) -> list[BatchT]:
    """The tokens of every `units` samples or frames of the signal, as far as positions end there; the inverse of `join_chunks`.

    Args:
        tokens: full, of one extent, with positions that cover the signal.
        units: of the signal; rounded down to what all segments can be cut at.

    Raises:
        TokenError: for other tokens, and extras whose values are not of the parts.
    """
    layout = tokens.layout
    strides = _strides(tokens)
    step = math.lcm(*strides)
    step *= max(1, units // step)
    total = max(size * stride for size, stride in zip(_sizes(layout), strides, strict=True))
    beyond = layout.signal_shape[0] - total  # below 0 where the first frame stands by itself
    parts = []
    for start in range(0, total, step):
        ranges = [
            (start // stride, min((start + step) // stride, size) - start // stride) for size, stride in zip(_sizes(layout), strides, strict=True)
        ]
        data = torch.cat([_view(tokens, number).narrow(1, *range_).flatten(1, 2) for number, range_ in enumerate(ranges)], dim=1)
        extras = dict(tokens.extras)
        if SIGNAL_SIZE in extras:
            sizes = extras[SIGNAL_SIZE].clone()
            passed = start + beyond if start else 0
            sizes[:, 0] = (sizes[:, 0] - passed).clamp_min(0)
            if start + step < total:
                sizes[:, 0].clamp_(max=start + step + beyond - passed)
            extras[SIGNAL_SIZE] = sizes
        parts.append(tokens.with_data(data, layout=_resized(layout, [count for _, count in ranges]), extras=extras))
    return parts


def join_chunks(parts: Sequence[BatchT]) -> BatchT:
    """Chunks of one batch of signals, in turn, as the tokens of the signals.

    This is not for tokens of several signals: see `join_clips`, and `Tokens.cat` for a batch of them.

    Raises:
        TokenError: if there is none, they differ in more than their extent in time, or have extras whose values are not of the parts.
    """
    if not parts:
        raise TokenError("there is no chunk to join")
    first = parts[0]
    for number, part in enumerate(parts):
        _strides(part)
        fits = first.layout.is_same_kind(part.layout) and len(part) == len(first) and set(part.extras) == set(first.extras)
        if not fits or [segment.shape[1:] for segment in part.layout.segments] != [segment.shape[1:] for segment in first.layout.segments]:
            raise TokenError(f"chunk {number} does not continue chunk 0: {part.layout} of {len(part)} samples, {first.layout} of {len(first)}")
    segments = range(len(first.layout.segments))
    data = torch.cat([torch.cat([_view(part, number) for part in parts], dim=1).flatten(1, 2) for number in segments], dim=1)
    extras = dict(first.extras)
    if SIGNAL_SIZE in extras:
        lengths = torch.stack([part.extras[SIGNAL_SIZE][:, 0] for part in parts]).sum(dim=0)
        extras[SIGNAL_SIZE] = torch.cat([lengths[:, None], extras[SIGNAL_SIZE][:, 1:]], dim=1)
    sizes = torch.tensor([_sizes(part.layout) for part in parts]).sum(dim=0).tolist()
    return first.with_data(data, layout=_resized(first.layout, sizes), extras=extras)


def join_clips(parts: Sequence[BatchT]) -> BatchT:
    """Tokens of several clips, one after the other, as those of one signal that keeps their boundaries among its extras, as `clips`.

    They are not the tokens of a signal that is as long: `Tokenizer.decode` decodes every clip by itself.

    Args:
        parts: one batch per clip, or of joined clips, all of as many samples.

    Raises:
        TokenError: as `join_chunks` does.
    """
    joined = join_chunks([without_clips(part) for part in parts])
    return joined.with_data(joined.data, extras={**joined.extras, CLIPS: torch.cat([_boundaries(part) for part in parts], dim=1)})


def without_clips(tokens: BatchT) -> BatchT:
    """The same tokens without boundaries of clips."""
    return tokens.with_data(tokens.data, extras={name: value for name, value in tokens.extras.items() if name != CLIPS})


def split_clips(tokens: BatchT) -> list[BatchT]:
    """The tokens of every clip of one sample, the inverse of `join_clips`; the sample itself where it has no boundaries.

    Raises:
        TokenError: if there are several samples, or the boundaries do not fit the tokens.
    """
    if CLIPS not in tokens.extras:
        return [tokens]
    whole = without_clips(tokens)
    _strides(whole)
    counts = tokens.extras[CLIPS]
    if counts.shape[0] != 1 or counts.ndim != 3 or counts.shape[2] != 1 + len(tokens.layout.segments):
        raise TokenError(f"expected one sample with boundaries (1, clips, {1 + len(tokens.layout.segments)}), got {tuple(counts.shape)}")
    rows = [row for row in counts[0].tolist() if any(row)]  # batches of samples with fewer clips are padded with zeros
    if any(min(row) < 1 for row in rows) or [sum(column) for column in zip(*rows, strict=True)][1:] != _sizes(tokens.layout):
        raise TokenError(f"clips of {rows} frames and positions do not make a sample of {_sizes(tokens.layout)} positions")
    parts, starts = [], [0] * len(tokens.layout.segments)
    for frames, *sizes in rows:
        data = torch.cat(
            [_view(whole, number).narrow(1, start, size).flatten(1, 2) for number, (start, size) in enumerate(zip(starts, sizes, strict=True))], dim=1
        )
        extras = dict(whole.extras)
        if SIGNAL_SIZE in extras:
            extras[SIGNAL_SIZE] = extras[SIGNAL_SIZE].clone()
            extras[SIGNAL_SIZE][:, 0] = frames
        parts.append(whole.with_data(data, layout=_resized(whole.layout, sizes), extras=extras))
        starts = [start + size for start, size in zip(starts, sizes, strict=True)]
    return parts


def _frames(tokens: SampleBatch) -> Tensor:
    """(B,) samples or frames of the signals along the first axis."""
    sizes = tokens.extras.get(SIGNAL_SIZE)
    return torch.full((len(tokens),), tokens.layout.signal_shape[0], device=tokens.data.device) if sizes is None else sizes[:, 0]


def _boundaries(tokens: SampleBatch) -> Tensor:
    """(B, clips, 1 + segments): those that the tokens have, or those of one clip."""
    if CLIPS in tokens.extras:
        return tokens.extras[CLIPS]
    positions = torch.tensor(_sizes(tokens.layout), device=tokens.data.device).expand(len(tokens), -1)
    return torch.cat([_frames(tokens)[:, None], positions], dim=1)[:, None]


def _sizes(layout: TokenLayout) -> list[int]:
    """Positions of every segment along the first axis."""
    return [segment.shape[0] for segment in layout.segments]


def _strides(tokens: SampleBatch) -> list[int]:
    """Of every segment along the first axis, after a check of what can be cut there."""
    layout, others = tokens.layout, sorted(set(tokens.extras) - {SIGNAL_SIZE})
    strides = [segment.stride[0] for segment in layout.segments if segment.stride is not None and 0 in segment.free_axes]
    if len(strides) < len(layout.segments):
        raise TokenError("positions of this layout do not follow the signal's first axis: its tokens cannot be cut into chunks")
    if tokens.extents is not None or not tokens.is_full:
        raise TokenError("chunks are of samples that hold all positions of one extent: take them by tokens.groups()")
    if others:
        raise TokenError(f"the extras {others} are of the whole signal: its tokens cannot be cut into chunks")
    return strides


def _view(tokens: SampleBatch, number: int) -> Tensor:
    """(B, T, rest) or (B, T, rest, D): one segment, its first axis apart."""
    segment = tokens.layout.segments[number]
    return tokens.data[:, tokens.layout.slice(segment.name)].unflatten(1, (segment.shape[0], -1))


def _resized(layout: TokenLayout, sizes: Sequence[int]) -> TokenLayout:
    """With other numbers of positions along the first axis of every segment."""
    return layout.at([extent for size, segment in zip(sizes, layout.segments, strict=True) for extent in (size, *segment.shape[1:])])
