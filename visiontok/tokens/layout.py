"""The arrangement of a tokenizer's tokens: what is the same for every signal (the kind), and how many positions a given signal has (the extent)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from visiontok.base.config import Config, Positive
from visiontok.base.errors import TokenError
from visiontok.base.modality import AXES, Modality
from visiontok.tokens.packing import bit_width

MAX_LENGTH = 2**24
"""The most tokens per sample: arrays over all of them stay small, whatever a file declares."""

VocabSize = Annotated[int, Field(gt=0, lt=2**63)]  # indices are int64
Counts: TypeAlias = Literal["none", "any"] | tuple[Positive, ...]
"""Which shorter forms decode: none, any number, or the listed numbers."""
OrderRule: TypeAlias = Literal["raster", "reverse", "depth-first", "by-scale", "interleaved"]


class Segment(Config):
    """One array of tokens within a sample: its arrangement, its vocabulary and what a position covers.

    Attributes:
        name: unique within the layout.
        shape: positions along each axis: (L,) for latent queries, (h, w) for a grid, (t, h, w) for video, (T,) for audio.
        vocab_size: number of codes; a tuple gives one number per codebook; None for continuous latents.
        codebooks: tokens per position (residual levels, product groups, channels). With more than one, `Tokens.view` has a last axis.
        channels: width of a continuous latent; None for tokens.
        stride: signal units (pixels, frames, samples) per position along each axis; None where positions cover no part of the signal.
        free_axes: those axes of `shape` whose number of positions depends on the signal; `shape` then holds the numbers of one signal.
        codebook: segments with the same label share their codes in one stream (multi-scale tokenizers with one codebook).
    """

    name: str = Field(min_length=1)
    shape: tuple[Positive, ...] = Field(min_length=1)
    vocab_size: VocabSize | tuple[VocabSize, ...] | None = None
    codebooks: Positive = 1
    channels: Positive | None = None
    stride: tuple[Positive, ...] | None = None
    free_axes: tuple[Annotated[int, Field(ge=0)], ...] = ()
    codebook: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Segment:
        if (self.vocab_size is None) == (self.channels is None):
            raise ValueError(f"segment {self.name!r}: give vocab_size for tokens or channels for continuous latents, not both and not neither")
        if isinstance(self.vocab_size, tuple) and len(self.vocab_size) != self.codebooks:
            raise ValueError(f"segment {self.name!r}: {len(self.vocab_size)} vocabulary sizes for {self.codebooks} codebooks")
        if self.channels is not None and (self.codebooks > 1 or self.codebook is not None):
            raise ValueError(f"segment {self.name!r}: continuous latents have no codebooks")
        if self.stride is not None and len(self.stride) != len(self.shape):
            raise ValueError(f"segment {self.name!r}: stride {self.stride} must have one number per axis of shape {self.shape}")
        if tuple(sorted(set(self.free_axes))) != self.free_axes or any(axis >= len(self.shape) for axis in self.free_axes):
            raise ValueError(f"segment {self.name!r}: free_axes {self.free_axes} must be rising axes of shape {self.shape}")
        return self

    @property
    def num_positions(self) -> int:
        return math.prod(self.shape)

    @property
    def length(self) -> int:
        """Tokens in storage: positions times codebooks."""
        return self.num_positions * self.codebooks

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        """One vocabulary size per codebook."""
        if self.vocab_size is None:
            raise TokenError(f"segment {self.name!r} holds continuous latents and has no vocabulary")
        return self.vocab_size if isinstance(self.vocab_size, tuple) else (self.vocab_size,) * self.codebooks


class TokenLayout(Config):
    """How the tokens of one sample are arranged. Storage order: segments in turn, each row-major over its shape, codebooks innermost.

    Attributes:
        modality: image, video, audio or features.
        segments: in storage order.
        signal_shape: what one sample of this extent covers: (H, W), (T, H, W) or (T,).
        rate: units of the signal's first axis per second (audio samples, video frames); None for images.
        prefixes: which numbers of first tokens of a sample decode by themselves: none but all, any, or the listed ones (scale boundaries).
        levels: which numbers of first codebook levels decode by themselves; see `num_levels`.
        ragged: whether samples may hold fewer tokens than their extent has (kept subsets, lists of varying length).
        order: the order in which a generator writes storage positions, as a rule (see `generation_order`) or as a permutation of them. A sample
            that holds only some positions writes them in the same order.
    """

    modality: Modality
    segments: tuple[Segment, ...] = Field(min_length=1)
    signal_shape: tuple[Positive, ...]
    rate: float | None = Field(default=None, gt=0)
    prefixes: Counts = "none"
    levels: Counts = "none"
    ragged: bool = False
    order: OrderRule | tuple[int, ...] = "raster"

    @model_validator(mode="after")
    def _check(self) -> TokenLayout:
        names = [segment.name for segment in self.segments]
        if len(set(names)) != len(names):
            raise ValueError(f"segment names are not unique: {names}")
        if len({segment.channels for segment in self.segments}) > 1:
            raise ValueError("a layout holds either tokens or continuous latents with one number of channels")
        if self.length > MAX_LENGTH:
            raise ValueError(f"a layout has at most {MAX_LENGTH} tokens per sample, got {self.length}")
        axes = AXES[self.modality]
        if len(self.signal_shape) != len(axes):
            raise ValueError(f"signal_shape of {self.modality} is ({', '.join(axes)}), got {self.signal_shape}")
        shared: dict[str, Segment] = {}
        for segment in self.segments:
            if segment.codebook is not None and segment.vocab_sizes != shared.setdefault(segment.codebook, segment).vocab_sizes:
                raise ValueError(
                    f"segments {shared[segment.codebook].name!r} and {segment.name!r} share codebook {segment.codebook!r} but not its sizes"
                )
        for name, counts, most in (("prefixes", self.prefixes, self.length), ("levels", self.levels, self.num_levels)):
            if isinstance(counts, tuple) and not (counts and list(counts) == sorted(set(counts)) and counts[-1] <= most):
                raise ValueError(f"{name} must be rising numbers up to {most}, got {counts}")
        if self.levels != "none" and len({segment.codebooks for segment in self.segments}) > 1:
            raise ValueError("levels need as many codebooks in every segment")
        if isinstance(self.order, tuple):
            if sorted(self.order) != list(range(self.length)):
                raise ValueError(f"order must be a permutation of range({self.length})")
            if self.is_variable:
                raise ValueError("a permutation fits one extent only: layouts with free axes name a rule as their order")
        return self

    def __eq__(self, other: object) -> bool:
        """Field by field: pydantic would compare the cached arrays too."""
        return isinstance(other, TokenLayout) and all(getattr(self, name) == getattr(other, name) for name in type(self).model_fields)

    def __hash__(self) -> int:
        return hash((self._kind, self.extents, self.signal_shape))

    # The kind, and other extents of it.

    @property
    def is_variable(self) -> bool:
        """Whether signals of one tokenizer differ in their number of positions."""
        return any(segment.free_axes for segment in self.segments)

    @property
    def has_free_axis(self) -> tuple[bool, ...]:
        """(E,): whether each of `extents` depends on the signal."""
        return tuple(axis in segment.free_axes for segment in self.segments for axis in range(len(segment.shape)))

    @property
    def extents(self) -> tuple[int, ...]:
        """(E,): the positions along every axis of every segment, segment after segment."""
        return tuple(size for segment in self.segments for size in segment.shape)

    def at(self, extents: Sequence[int]) -> TokenLayout:
        """The same kind of layout at other extents.

        Args:
            extents: (E,) positions along every axis of every segment.

        Raises:
            TokenError: if there are not E of them, one is below 1, or one differs on an axis that is not free.
        """
        requested = tuple(int(size) for size in extents)
        if requested == self.extents:
            return self
        if len(requested) != len(self.extents):
            raise TokenError(f"extents {requested} do not have one number for each of the {len(self.extents)} axes of {self.extents}")
        segments, used = [], 0
        for segment in self.segments:
            shape = requested[used : used + len(segment.shape)]
            used += len(shape)
            for axis, (size, own) in enumerate(zip(shape, segment.shape, strict=True)):
                if size < 1 or (size != own and axis not in segment.free_axes):
                    free = f"free axes {segment.free_axes}" if segment.free_axes else "no free axis"
                    raise TokenError(f"segment {segment.name!r} with shape {segment.shape} and {free} cannot have shape {shape}")
            segments.append(segment.model_copy(update={"shape": shape}))
        guide = next((number for number, segment in enumerate(self.segments) if self._is_strided(segment)), None)
        signal_shape = self.signal_shape
        if guide is not None:
            before, after = self.segments[guide], segments[guide]
            signal_shape = tuple(
                max(1, size + (new - old) * stride)
                for size, new, old, stride in zip(signal_shape, after.shape, before.shape, before.stride or (), strict=True)
            )
        changed: dict[str, Any] = {"segments": tuple(segments), "signal_shape": signal_shape}
        if isinstance(self.prefixes, tuple):
            length = sum(segment.length for segment in segments)
            changed["prefixes"] = tuple(count for count in self.prefixes if count <= length) or "none"
        return self._changed(changed)

    def _changed(self, changes: Mapping[str, Any]) -> TokenLayout:
        return TokenLayout(**{**{name: getattr(self, name) for name in type(self).model_fields}, **changes})

    def lengths_at(self, extents: np.ndarray) -> np.ndarray:
        """(N,) int64: tokens of full samples at extents (N, E)."""
        lengths, first = np.zeros(len(extents), dtype=np.int64), 0
        for segment in self.segments:
            last = first + len(segment.shape)
            lengths += extents[:, first:last].prod(axis=1) * segment.codebooks
            first = last
        return lengths

    def at_length(self, length: int) -> TokenLayout:
        """The layout of that many tokens, where the number alone says the extents: layouts whose segments grow together along one axis.

        Raises:
            TokenError: if it does not, or no extents give that length.
        """
        if length == self.length:
            return self
        free = [segment.shape[segment.free_axes[0]] for segment in self.segments if len(segment.free_axes) == 1]
        if not free or any(len(segment.free_axes) > 1 for segment in self.segments):
            raise TokenError(f"{length} tokens do not determine the extents of a layout with extents {self.extents}: give the extents")
        units = math.gcd(*free)
        fixed = sum(segment.length for segment in self.segments if not segment.free_axes)
        per_unit = (self.length - fixed) // units
        count, rest = divmod(length - fixed, per_unit)
        if rest or count < 1:
            raise TokenError(f"{length} tokens are not whole steps of {per_unit}" + (f" beside {fixed}" if fixed else ""))
        extents = []
        for segment in self.segments:
            extents += [size // units * count if axis in segment.free_axes else size for axis, size in enumerate(segment.shape)]
        return self.at(extents)

    def accepts(self, other: TokenLayout) -> bool:
        """Whether tokens of that layout fit a model of this one: the same kind, at any extents, with all codebook levels or as many as may be."""
        return self.levels_of(other) is not None

    def levels_of(self, other: TokenLayout) -> int | None:
        """How many of this layout's codebook levels that layout holds, at any extents; None if it is of another kind or they do not decode.

        `num_levels` does not say it: of one codebook it counts the segments.
        """
        if self.is_same_kind(other):
            return self.num_levels
        counts = (count for count in range(1, self.num_levels) if self.allows_levels(count))
        return next((count for count in counts if self.with_levels(count).is_same_kind(other)), None)

    def is_same_kind(self, other: TokenLayout) -> bool:
        """Whether tokens of both layouts can share a batch or set: they differ in extent only."""
        return self._kind == other._kind

    @cached_property
    def _kind(self) -> tuple[Any, ...]:
        """Everything but the numbers on free axes and what follows from them."""
        segments = tuple(
            (
                segment.name,
                tuple(None if axis in segment.free_axes else size for axis, size in enumerate(segment.shape)),
                segment.vocab_size if segment.vocab_size is None else segment.vocab_sizes,
                *(getattr(segment, name) for name in ("codebooks", "channels", "stride", "free_axes", "codebook")),
            )
            for segment in self.segments
        )
        guide = next((segment for segment in self.segments if self._is_strided(segment)), None)
        covers = self.signal_shape
        if guide is not None and guide.stride is not None:
            covers = tuple(
                size - positions * stride if axis in guide.free_axes else size
                for axis, (size, positions, stride) in enumerate(zip(covers, guide.shape, guide.stride, strict=True))
            )
        elif self.is_variable:
            covers = ()
        prefixes = "listed" if isinstance(self.prefixes, tuple) and self.is_variable else self.prefixes
        return (self.modality, segments, covers, self.rate, prefixes, self.levels, self.ragged, self.order)

    def _is_strided(self, segment: Segment) -> bool:
        return segment.stride is not None and len(segment.stride) == len(self.signal_shape)

    # Shorter forms.

    def allows_prefix(self, length: int) -> bool:
        """Whether the first `length` tokens of a full sample decode."""
        return length == self.length or _allows(self.prefixes, length, self.length)

    def allows_levels(self, count: int) -> bool:
        """Whether the first `count` codebook levels decode."""
        return count == self.num_levels or _allows(self.levels, count, self.num_levels)

    @property
    def num_levels(self) -> int:
        """Codebook levels: the codebooks of a position where there are several, else the segments (scales, rates)."""
        codebooks = max(segment.codebooks for segment in self.segments)
        return codebooks if codebooks > 1 else len(self.segments)

    def with_levels(self, count: int) -> TokenLayout:
        """The layout of the first `count` codebook levels.

        Raises:
            TokenError: if they do not decode by themselves.
        """
        if not self.allows_levels(count):
            allowed = "they cannot be cut" if self.levels == "none" else f"allowed: {self.levels}"
            raise TokenError(f"{count} codebook levels of {self.num_levels}: {allowed}")
        if count == self.num_levels:
            return self
        if any(segment.codebooks > 1 for segment in self.segments):
            segments = tuple(
                segment.model_copy(
                    update={
                        "codebooks": count,
                        "vocab_size": segment.vocab_size[:count] if isinstance(segment.vocab_size, tuple) else segment.vocab_size,
                    }
                )
                for segment in self.segments
            )
        else:
            segments = self.segments[:count]
        levels = tuple(level for level in self.levels if level <= count) if isinstance(self.levels, tuple) else self.levels
        changed: dict[str, Any] = {"segments": segments, "levels": levels or "none"}
        if isinstance(self.prefixes, tuple) or isinstance(self.order, tuple):
            changed |= self._renumbered(np.concatenate([np.arange(s.length) % s.codebooks < k for s, k in self._kept_codebooks(count)]))
        return self._changed(changed)

    def _kept_codebooks(self, count: int) -> list[tuple[Segment, int]]:
        """Every segment, with how many of its codebooks the first `count` levels hold."""
        has_codebooks = any(segment.codebooks > 1 for segment in self.segments)
        return [(segment, count if has_codebooks else int(number < count)) for number, segment in enumerate(self.segments)]

    def _renumbered(self, kept: np.ndarray) -> dict[str, Any]:
        """Listed prefixes and the permutation of the storage positions that are kept, (L,) bool, among themselves.

        A prefix stays listed if the position that follows it is kept, or it holds all that are: others end within a position or a cut segment.
        """
        before = np.concatenate([[0], np.cumsum(kept)])
        changed: dict[str, Any] = {}
        if isinstance(self.prefixes, tuple):
            ends = {int(before[count]) for count in self.prefixes if count == self.length or kept[count] or before[count] == before[-1]}
            changed["prefixes"] = tuple(sorted(ends))
        if isinstance(self.order, tuple):
            changed["order"] = tuple(int(before[position]) for position in self.order if kept[position])
        return changed

    # Numbers of this extent.

    @property
    def length(self) -> int:
        """Tokens of a full sample."""
        return sum(segment.length for segment in self.segments)

    @property
    def is_continuous(self) -> bool:
        return self.segments[0].vocab_size is None

    @cached_property
    def vocab_sizes(self) -> np.ndarray:
        """(L,) int64: the vocabulary size at every storage position."""
        return np.concatenate([np.tile(np.asarray(s.vocab_sizes, dtype=np.int64), s.num_positions) for s in self.segments])

    def vocab_sizes_at(self, positions: np.ndarray) -> np.ndarray:
        """(...,) int64: the vocabulary sizes at these storage positions, the last one beyond them; without an array over all positions."""
        ends = np.cumsum([segment.length for segment in self.segments])
        number = np.searchsorted(ends[:-1], positions, side="right")
        codebooks = np.asarray([segment.codebooks for segment in self.segments])[number]
        within = (np.minimum(positions, ends[-1] - 1) - np.concatenate([[0], ends[:-1]])[number]) % codebooks
        first = np.cumsum([0, *(segment.codebooks for segment in self.segments)])[number]
        return np.concatenate([np.asarray(segment.vocab_sizes, dtype=np.int64) for segment in self.segments])[first + within]

    @property
    def vocab_size(self) -> int:
        """The vocabulary size of every token, where all have one.

        Raises:
            TokenError: if they differ, or the layout is continuous.
        """
        sizes = sorted({size for segment in self.segments for size in segment.vocab_sizes})
        if len(sizes) > 1:
            raise TokenError(f"tokens of this layout have vocabularies of {', '.join(map(str, sizes))} codes: read vocab_sizes, one per position")
        return sizes[0]

    @cached_property
    def bit_widths(self) -> np.ndarray:
        """(L,) int64: `ceil(log2 V)` at every storage position."""
        return np.concatenate(
            [np.tile(np.asarray([bit_width(size) for size in s.vocab_sizes], dtype=np.int64), s.num_positions) for s in self.segments]
        )

    @cached_property
    def code_offsets(self) -> np.ndarray:
        """(L,) int64: the row of code 0 at every storage position when all codebooks are in one table, segment after segment.

        Codebooks of one segment follow each other; segments with the same `codebook` label share their rows.
        """
        return np.concatenate([np.tile(starts, segment.num_positions) for starts, segment in zip(self.codebook_rows, self.segments, strict=True)])

    @property
    def codebook_rows(self) -> list[np.ndarray]:
        """Of every segment, (codebooks,) int64: the row at which each of its codebooks begins in the table of `code_offsets`."""
        return self._table()[0]

    @property
    def num_codes(self) -> int:
        """Rows of the table of all codebooks, the same at every extent."""
        return self._table()[1]

    def _table(self) -> tuple[list[np.ndarray], int]:
        """The first row of every codebook of every segment, and the number of rows."""
        starts: dict[tuple[bool, str], np.ndarray] = {}
        rows, found = 0, []
        for segment in self.segments:
            key = (segment.codebook is None, segment.codebook or segment.name)
            if key not in starts:
                ends = rows + np.cumsum(segment.vocab_sizes)
                starts[key] = ends - segment.vocab_sizes
                rows = int(ends[-1])
            found.append(starts[key])
        return found, rows

    @cached_property
    def generation_order(self) -> np.ndarray:
        """(L,) int64: the storage position of every generation step.

        `raster` is storage order, `reverse` its reverse. `by-scale` takes segments in turn, each codebook by codebook. `depth-first` and
        `interleaved` follow the first axis (time): depth-first takes a coarse position, then at once the finer ones that begin with it, and so
        on; interleaved takes all of a coarse position's span segment by segment.
        """
        if isinstance(self.order, tuple):
            return np.asarray(self.order, dtype=np.int64)
        positions = np.arange(self.length, dtype=np.int64)
        if self.order == "raster":
            return positions
        if self.order == "reverse":
            return positions[::-1].copy()
        steps = [segment.shape[0] for segment in self.segments]
        unit, coarsest = math.lcm(*steps), min(steps)
        keys = []
        for number, segment in enumerate(self.segments):
            position, codebook = np.divmod(np.arange(segment.length, dtype=np.int64), segment.codebooks)
            start = position // (segment.num_positions // segment.shape[0]) * (unit // segment.shape[0])
            same = np.full_like(position, number)
            rank = {
                "by-scale": (same, codebook, position),
                "depth-first": (start, same, position),
                "interleaved": (start // (unit // coarsest), same, position),
            }[self.order]
            keys.append(np.stack([*rank, codebook]))
        return np.lexsort(np.concatenate(keys, axis=1)[::-1])

    @cached_property
    def is_in_storage_order(self) -> bool:
        """Whether samples are generated from their first storage position to the last, so that prefixes are generated first."""
        return self.order == "raster" or bool((self.generation_order == np.arange(self.length)).all())

    @property
    def bits(self) -> float:
        """Nominal information of a full sample: the sum of log2 V."""
        return float(np.log2(self.vocab_sizes).sum())

    @property
    def bits_per_unit(self) -> float:
        """Nominal bits per pixel (image, video) or per audio sample of a full sample."""
        return self.bits / math.prod(self.signal_shape)

    @property
    def bits_per_second(self) -> float:
        """Nominal bits per second of a full sample.

        Raises:
            TokenError: for layouts without a rate (images).
        """
        if self.rate is None:
            raise TokenError(f"this {self.modality} layout has no rate, so bits per second is not defined; use bits_per_unit")
        return self.bits * self.rate / self.signal_shape[0]

    def positions_per_second(self, name: str) -> float:
        """Positions of a segment per second along its first axis: the frame rate of an audio codec.

        Raises:
            TokenError: for layouts without a rate, and segments without a stride.
        """
        segment = self.segment(name)
        if self.rate is None or segment.stride is None:
            raise TokenError(f"segment {name!r} of this {self.modality} layout has no {'rate' if self.rate is None else 'stride'}")
        return self.rate / segment.stride[0]

    def segment(self, name: str) -> Segment:
        """The segment of that name."""
        return self.segments[self._number(name)]

    def slice(self, name: str) -> slice:
        """The storage positions of the segment of that name."""
        number = self._number(name)
        start = sum(segment.length for segment in self.segments[:number])
        return slice(start, start + self.segments[number].length)

    def describe(self, position: int) -> str:
        """`segment 'grid', position (3, 4), codebook 1` for a storage position."""
        if not 0 <= position < self.length:
            raise TokenError(f"storage position {position} is outside the layout's [0, {self.length})")
        for segment in self.segments:
            if position < segment.length:
                break
            position -= segment.length
        within, codebook = divmod(position, segment.codebooks)
        where = ", ".join(str(int(axis)) for axis in np.unravel_index(within, segment.shape))
        return f"segment {segment.name!r}, position ({where})" + (f", codebook {codebook}" if segment.codebooks > 1 else "")

    def _number(self, name: str) -> int:
        for number, segment in enumerate(self.segments):
            if segment.name == name:
                return number
        raise TokenError(f"no segment {name!r}; this layout has {[segment.name for segment in self.segments]}")


def _allows(counts: Counts, count: int, most: int) -> bool:
    if counts == "none":
        return False
    return 1 <= count <= most if counts == "any" else count in counts
