"""Tokens: what every tokenizer emits, every generator reads and every file stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from visiontok.base.errors import TokenError
from visiontok.tokens.layout import Segment, TokenLayout
from visiontok.tokens.packing import pack_rows, unpack_rows

__all__ = ["PAD", "Latents", "Segment", "TokenLayout", "Tokens"]

PAD = -1
"""The value of `indices` and `positions` beyond a sample's length: never a valid id, so that it cannot be decoded by mistake."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """A batch of token ids.

    Attributes:
        indices: (B, L) int64, every id of a sample in storage order; `PAD` beyond a sample's length.
        layout: how a full sample is arranged.
        lengths: (B,) int64 ids per sample; None when every sample holds L.
        positions: (B, L) int64 storage places of kept ids where they keep their place, rising, `PAD` beyond a sample's length; None when
            the ids of a sample are its first ones.
    """

    indices: Tensor
    layout: TokenLayout
    lengths: Tensor | None = None
    positions: Tensor | None = None

    def __post_init__(self) -> None:
        layout, indices = self.layout, self.indices
        if layout.is_continuous:
            raise TokenError("the layout is continuous: use Latents")
        if indices.ndim != 2 or indices.dtype != torch.int64:
            raise TokenError(f"indices must be int64 of shape (B, L), got {indices.dtype} {tuple(indices.shape)}")
        if indices.shape[1] > layout.length:
            raise TokenError(f"{indices.shape[1]} ids per sample exceed the layout's {layout.length}")
        if indices.shape[1] < layout.length and not (layout.prefix_decodable or layout.ragged):
            raise TokenError(f"{indices.shape[1]} ids per sample where this layout needs {layout.length}: it is neither prefix-decodable nor ragged")
        if self.lengths is not None:
            if self.lengths.shape != indices.shape[:1] or self.lengths.dtype != torch.int64:
                raise TokenError(f"lengths must be int64 of shape ({len(indices)},), got {self.lengths.dtype} {tuple(self.lengths.shape)}")
            if not (layout.prefix_decodable or layout.ragged):
                raise TokenError("lengths were given for a layout that is neither prefix-decodable nor ragged")
        if self.positions is not None:
            if not layout.ragged:
                raise TokenError("positions were given for a layout that is not ragged")
            if self.positions.shape != indices.shape or self.positions.dtype != torch.int64:
                raise TokenError(f"positions must be int64 of shape {tuple(indices.shape)}, got {self.positions.dtype} {tuple(self.positions.shape)}")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: slice | Tensor) -> Tokens:
        """A sub-batch."""
        if not isinstance(rows, slice | Tensor):
            raise TypeError(f"index a batch of tokens with a slice or a tensor, not {type(rows).__name__}; use tokens[i:i + 1] for one sample")
        return replace(
            self,
            indices=self.indices[rows],
            lengths=None if self.lengths is None else self.lengths[rows],
            positions=None if self.positions is None else self.positions[rows],
        )

    @property
    def sample_lengths(self) -> Tensor:
        """(B,) int64: ids per sample, also where `lengths` is None."""
        if self.lengths is not None:
            return self.lengths
        return torch.full((len(self),), self.indices.shape[1], dtype=torch.int64, device=self.indices.device)

    @property
    def mask(self) -> Tensor:
        """(B, L) bool: True where an id is held."""
        return torch.arange(self.indices.shape[1], device=self.indices.device) < self.sample_lengths[:, None]

    @property
    def bits(self) -> Tensor:
        """(B,) float64: nominal bits of each sample, the sum of log2 V over the ids it holds."""
        sizes = torch.log2(torch.as_tensor(self.layout.vocab_sizes, device=self.indices.device).double())
        return (sizes[self._places().clamp_min(0)] * self.mask).sum(dim=1)

    @property
    def is_full(self) -> bool:
        """Whether every sample holds every id of the layout (rising positions then leave out none, so they say nothing more)."""
        return bool((self.sample_lengths == self.layout.length).all())

    def view(self, segment: str | None = None) -> Tensor:
        """The shaped ids of one segment: (B, *shape), or (B, *shape, codebooks) with several codebooks.

        Args:
            segment: its name; may be left out where the layout has only one.

        Raises:
            TokenError: if a sample does not hold all of its ids.
        """
        if segment is None:
            if len(self.layout.segments) > 1:
                raise TokenError(f"name a segment of {[s.name for s in self.layout.segments]}")
            segment = self.layout.segments[0].name
        if not self.is_full:
            raise TokenError("samples that do not hold every id of the layout have no shaped view; use indices, lengths and positions")
        part = self.layout.segment(segment)
        shape = part.shape if part.codebooks == 1 else (*part.shape, part.codebooks)
        return self.indices[:, self.layout.slice(segment)].reshape(len(self), *shape)

    def prefix(self, num_tokens: int | Tensor) -> Tokens:
        """The first ids of every sample.

        Args:
            num_tokens: one number for all samples, or (B,) int64 with one per sample.

        Raises:
            TokenError: if prefixes of this layout do not decode, or a number is below 1 or above what a sample holds.
        """
        if not self.layout.prefix_decodable:
            raise TokenError("prefixes of these tokens do not decode: the tokenizer was not trained with ordered tokens")
        wanted = torch.as_tensor(num_tokens, dtype=torch.int64, device=self.indices.device)
        if wanted.ndim == 0:
            wanted = wanted.expand(len(self))
        held = self.sample_lengths
        if wanted.shape != held.shape:
            raise TokenError(f"num_tokens must be a number or have shape ({len(self)},), got {tuple(wanted.shape)}")
        wrong = torch.nonzero((wanted < 1) | (wanted > held)).flatten()
        if len(wrong):
            row = int(wrong[0])
            raise TokenError(f"sample {row} holds {int(held[row])} ids, so a prefix of {int(wanted[row])} cannot be taken (at least 1)")
        return self._cut(wanted)

    def to(self, device: torch.device | str) -> Tokens:
        """The same tokens on another device."""
        return replace(
            self,
            indices=self.indices.to(device),
            lengths=None if self.lengths is None else self.lengths.to(device),
            positions=None if self.positions is None else self.positions.to(device),
        )

    def validate(self) -> Tokens:
        """Check every id against its vocabulary; returns self.

        Raises:
            TokenError: naming the sample, the place and the segment of the first wrong id, length or position.
        """
        lengths = self.sample_lengths
        wrong = torch.nonzero((lengths < 0) | (lengths > self.indices.shape[1])).flatten()
        if len(wrong):
            raise TokenError(f"sample {int(wrong[0])} has length {int(lengths[wrong[0]])}, outside [0, {self.indices.shape[1]}]")
        if self.positions is not None:
            self._check_positions(self.positions)
        places = self._places()
        sizes = torch.as_tensor(self.layout.vocab_sizes, device=self.indices.device)[places.clamp_min(0)]
        first = _first((self.indices < 0) | (self.indices >= sizes), self.mask)
        if first is not None:
            row, column = first
            where = self.layout.describe(int(places[row, column]))
            raise TokenError(f"id {int(self.indices[row, column])} of sample {row} at {where} is outside [0, {int(sizes[row, column])})")
        self._check_padding("id", self.indices)
        return self

    def pack(self) -> list[bytes]:
        """One byte string per sample: its ids at `ceil(log2 V)` bits each. Lengths and positions are kept beside them, by the caller."""
        self.validate()
        packed = [b""] * len(self)
        rows = self.indices.cpu().numpy()
        for samples, places in self._alike():
            for sample, payload in zip(samples, pack_rows(rows[samples, : len(places)], self.layout.bit_widths[places]), strict=True):
                packed[sample] = payload
        return packed

    @classmethod
    def unpack(
        cls, data: Sequence[bytes], layout: TokenLayout, *, lengths: Sequence[int] | None = None, positions: Sequence[Sequence[int]] | None = None
    ) -> Tokens:
        """Inverse of `pack`.

        Args:
            data: one byte string per sample.
            lengths: ids per sample; needed where samples are not full.
            positions: storage places per sample, where ids keep their place; their number is the sample's length.

        Raises:
            TokenError: if the bytes do not fit the layout.
        """
        blank = [torch.zeros(count, dtype=torch.int64) for count in _counts(len(data), layout, lengths, positions)]
        places = None if positions is None else [torch.as_tensor(row, dtype=torch.int64) for row in positions]
        # Zeros are valid everywhere, so this checks the lengths and positions before any byte is read by them.
        tokens = cls.from_samples(blank, layout, positions=places)
        rows = tokens.indices.numpy()
        for samples, held in tokens._alike():
            payloads = [data[sample] for sample in samples]
            rows[samples, : len(held)] = unpack_rows(payloads, layout.bit_widths[held], numbers=samples.tolist())
        return tokens.validate()

    @classmethod
    def from_samples(cls, samples: Sequence[Tensor], layout: TokenLayout, *, positions: Sequence[Tensor] | None = None) -> Tokens:
        """Batch samples of varying length (each (L_i,) int64), padded with `PAD`.

        Args:
            samples: the ids of each sample.
            layout: their layout.
            positions: the storage places of each sample's ids, where they keep their place.

        Raises:
            TokenError: if samples, positions and layout do not fit each other, or an id is out of range.
        """
        for row, sample in enumerate(samples):
            if sample.ndim != 1 or sample.dtype != torch.int64:
                raise TokenError(f"sample {row} must be int64 of shape (L,), got {sample.dtype} {tuple(sample.shape)}")
        if positions is not None and [len(row) for row in positions] != [len(sample) for sample in samples]:
            raise TokenError("positions must hold one place for every id of every sample")
        if not len(samples):
            empty = torch.empty(0, layout.length, dtype=torch.int64)
            return cls(empty, layout, positions=None if positions is None else empty.clone())
        lengths = torch.as_tensor([len(sample) for sample in samples], device=samples[0].device)
        return cls(
            pad_sequence(list(samples), batch_first=True, padding_value=PAD),
            layout,
            lengths=None if bool((lengths == lengths[0]).all()) else lengths,
            positions=None if positions is None else pad_sequence(list(positions), batch_first=True, padding_value=PAD),
        ).validate()

    @classmethod
    def cat(cls, batches: Sequence[Tokens]) -> Tokens:
        """Join batches of one layout. Where only some have positions, the others' ids are written at the places they stand for.

        Raises:
            TokenError: if the layouts differ or there is no batch.
        """
        layout = _common_layout(batches)
        width = max(batch.indices.shape[1] for batch in batches)
        placed = any(batch.positions is not None for batch in batches)
        lengths = torch.cat([batch.sample_lengths for batch in batches])
        joined = cls(
            torch.cat([_widen(batch.indices, width) for batch in batches]),
            layout,
            lengths=lengths if layout.ragged or layout.prefix_decodable else None,
            positions=torch.cat([_widen(batch._places().masked_fill(~batch.mask, PAD), width) for batch in batches]) if placed else None,
        )
        return joined._cut(lengths)

    def _cut(self, lengths: Tensor) -> Tokens:
        """The first `lengths` (B,) ids of every sample, in as few columns as hold them."""
        longest = int(lengths.max()) if len(lengths) else self.indices.shape[1]
        even = bool((lengths == longest).all())
        beyond = torch.arange(longest, device=lengths.device) >= lengths[:, None]
        return replace(
            self,
            indices=self.indices[:, :longest].masked_fill(beyond, PAD),
            lengths=None if even else lengths.clone(),
            positions=None if self.positions is None else self.positions[:, :longest].masked_fill(beyond, PAD),
        )

    def _alike(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of samples that hold ids at the same storage places, with those places."""
        lengths = self.sample_lengths.cpu().numpy()
        if self.positions is None:
            for length in np.unique(lengths):
                yield np.flatnonzero(lengths == length), np.arange(length)
        else:
            for row, (places, length) in enumerate(zip(self.positions.cpu().numpy(), lengths, strict=True)):
                yield np.asarray([row]), places[:length]

    def _places(self) -> Tensor:
        """(B, L): the storage place of every column of every sample."""
        if self.positions is not None:
            return self.positions
        return torch.arange(self.indices.shape[1], device=self.indices.device).expand_as(self.indices)

    def _check_positions(self, positions: Tensor) -> None:
        first = _first((positions < 0) | (positions >= self.layout.length), self.mask)
        if first is not None:
            row, column = first
            raise TokenError(f"position {int(positions[row, column])} of sample {row}, column {column} is outside [0, {self.layout.length})")
        first = _first(positions[:, 1:] <= positions[:, :-1], self.mask[:, 1:])
        if first is not None:
            raise TokenError(f"positions of sample {first[0]} do not rise at column {first[1] + 1}")
        self._check_padding("position", positions)

    def _check_padding(self, what: str, values: Tensor) -> None:
        first = _first(values != PAD, ~self.mask)
        if first is not None:
            row, column = first
            length = int(self.sample_lengths[row])
            raise TokenError(f"sample {row} holds {length} ids, but {what} {int(values[row, column])} stands in column {column} instead of {PAD}")


def _first(wrong: Tensor, among: Tensor) -> tuple[int, int] | None:
    """Row and column of the first place that is `wrong` (B, L) `among` (B, L) those that count."""
    found = torch.nonzero(wrong & among)
    return (int(found[0, 0]), int(found[0, 1])) if len(found) else None


def _widen(rows: Tensor, width: int) -> Tensor:
    return pad(rows, (0, width - rows.shape[1]), value=PAD)


def _counts(samples: int, layout: TokenLayout, lengths: Sequence[int] | None, positions: Sequence[Sequence[int]] | None) -> Sequence[int]:
    """Ids per sample, as `Tokens.unpack` was told."""
    counts = [layout.length] * samples if lengths is None else lengths
    if positions is not None:
        counts = [len(row) for row in positions]
    if len(counts) != samples:
        raise TokenError(f"{samples} samples were given with lengths or positions of {len(counts)}")
    for row, count in enumerate(counts):
        if not 0 <= count <= layout.length:
            raise TokenError(f"sample {row} cannot hold {count} ids: the layout has {layout.length}")
    return counts


@dataclass(frozen=True, eq=False)
class Latents:
    """A batch of continuous latents, for tokenizers without a codebook.

    Attributes:
        values: (B, L, D) floats in storage order; only the first ones, where prefixes of the layout decode.
        layout: a continuous layout.
    """

    values: Tensor
    layout: TokenLayout

    def __post_init__(self) -> None:
        if not self.layout.is_continuous:
            raise TokenError("the layout holds ids: use Tokens")
        longest, channels = self.layout.length, self.layout.segments[0].channels
        shape = tuple(self.values.shape)
        held = shape[1] if len(shape) == 3 else 0
        is_short = self.layout.prefix_decodable and 0 < held < longest
        if shape[2:] != (channels,) or not (held == longest or is_short):
            raise TokenError(f"latents must have shape (B, {longest}, {channels}), got {shape}")

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Tensor) -> Latents:
        """A sub-batch."""
        return replace(self, values=self.values[rows])

    def view(self) -> Tensor:
        """(B, *shape, D): the latents of a layout with one segment as they lie.

        Raises:
            TokenError: if they are only the first ones.
        """
        if self.values.shape[1] < self.layout.length:
            raise TokenError(f"the first {self.values.shape[1]} of {self.layout.length} latents have no shaped view; use values")
        return self.values.unflatten(1, self.layout.segments[0].shape)

    def prefix(self, num_tokens: int) -> Latents:
        """The first latents of every sample.

        Raises:
            TokenError: if prefixes of this layout do not decode, or the number is below 1 or above what a sample holds.
        """
        if not self.layout.prefix_decodable:
            raise TokenError("prefixes of these latents do not decode: the tokenizer was not trained with ordered latents")
        if not 1 <= num_tokens <= self.values.shape[1]:
            raise TokenError(f"samples hold {self.values.shape[1]} latents, so a prefix of {num_tokens} cannot be taken (at least 1)")
        return replace(self, values=self.values[:, :num_tokens])

    @classmethod
    def cat(cls, batches: Sequence[Latents]) -> Latents:
        """Join batches of one layout.

        Raises:
            TokenError: if the layouts differ or there is no batch.
        """
        layout = _common_layout(batches)
        return cls(torch.cat([batch.values for batch in batches]), layout)

    def to(self, device: torch.device | str) -> Latents:
        """The same latents on another device."""
        return replace(self, values=self.values.to(device))


def _common_layout(batches: Sequence[Tokens | Latents]) -> TokenLayout:
    if not batches:
        raise TokenError("there is no batch to join")
    layout = batches[0].layout
    for number, batch in enumerate(batches):
        if batch.layout != layout:
            raise TokenError(f"batches of different layouts cannot be joined: batch {number} has {batch.layout}, batch 0 has {layout}")
    return layout
