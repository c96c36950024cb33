"""Tokens: what every tokenizer emits, every generator reads and every file stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from visiontok.errors import TokenError
from visiontok.layout import Segment, TokenLayout
from visiontok.packing import pack_bits, unpack_bits

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
        positions: (B, L) int64 storage places of kept ids where they keep their place; None when ids are a prefix or complete.
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
            raise TokenError(
                f"{indices.shape[1]} ids per sample where this layout needs {layout.length}: it is neither prefix-decodable nor ragged"
            )
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
        held = sizes[self._places().clamp_min(0)]
        return (held * self.mask).sum(dim=1)

    @property
    def is_full(self) -> bool:
        """Whether every sample holds every id of the layout."""
        return self.positions is None and bool((self.sample_lengths == self.layout.length).all())

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
        longest = int(wanted.max()) if len(self) else 0
        even = bool((wanted == longest).all())
        cut = replace(self, indices=self.indices[:, :longest].contiguous(), lengths=None if even else wanted.clone())
        if self.positions is not None:
            cut = replace(cut, positions=self.positions[:, :longest].contiguous())
        if even:
            return cut
        return replace(
            cut,
            indices=cut.indices.masked_fill(~cut.mask, PAD),
            positions=None if cut.positions is None else cut.positions.masked_fill(~cut.mask, PAD),
        )

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
        bad = ((self.indices < 0) | (self.indices >= sizes)) & self.mask
        first = torch.nonzero(bad)
        if len(first):
            row, column = (int(value) for value in first[0])
            place = int(places[row, column])
            raise TokenError(
                f"id {int(self.indices[row, column])} of sample {row} at {self.layout.describe(place)} is outside [0, {int(sizes[row, column])})"
            )
        stray = torch.nonzero((self.indices != PAD) & ~self.mask)
        if len(stray):
            row, column = (int(value) for value in stray[0])
            raise TokenError(f"sample {row} holds {int(lengths[row])} ids but column {column} is not padding ({PAD})")
        return self

    def pack(self) -> list[bytes]:
        """One byte string per sample: its ids at `ceil(log2 V)` bits each. Lengths and positions are kept beside them, by the caller."""
        self.validate()
        places, lengths = self._places().cpu().numpy(), self.sample_lengths.tolist()
        rows = self.indices.cpu().numpy()
        widths = self.layout.bit_widths
        return [pack_bits(row[:length], widths[place[:length]]) for row, place, length in zip(rows, places, lengths, strict=True)]

    @classmethod
    def unpack(
        cls, data: Sequence[bytes], layout: TokenLayout, *, lengths: Sequence[int] | None = None, positions: Sequence[Sequence[int]] | None = None
    ) -> Tokens:
        """Inverse of `pack`.

        Args:
            data: one byte string per sample.
            lengths: ids per sample; needed where samples are not full.
            positions: storage places per sample, where ids keep their place.

        Raises:
            TokenError: if the bytes do not fit the layout.
        """
        counts = [layout.length] * len(data) if lengths is None else list(lengths)
        if positions is not None:
            counts = [len(row) for row in positions]
        samples = []
        for row, (payload, count) in enumerate(zip(data, counts, strict=True)):
            places = np.arange(count) if positions is None else np.asarray(positions[row], dtype=np.int64)
            if len(places) and (places.min() < 0 or places.max() >= layout.length):
                raise TokenError(f"sample {row} has a place outside [0, {layout.length})")
            samples.append(torch.from_numpy(unpack_bits(payload, layout.bit_widths[places])))
        kept = None if positions is None else [torch.as_tensor(list(row), dtype=torch.int64) for row in positions]
        return cls.from_samples(samples, layout, positions=kept)

    @classmethod
    def from_samples(cls, samples: Sequence[Tensor], layout: TokenLayout, *, positions: Sequence[Tensor] | None = None) -> Tokens:
        """Batch samples of varying length (each (L_i,) int64), padded with `PAD`; validated."""
        lengths = torch.as_tensor([len(sample) for sample in samples], dtype=torch.int64)
        longest = int(lengths.max()) if len(samples) else layout.length
        indices = torch.full((len(samples), longest), PAD, dtype=torch.int64)
        places = None if positions is None else torch.full_like(indices, PAD)
        for row, sample in enumerate(samples):
            indices[row, : len(sample)] = sample
            if places is not None and positions is not None:
                places[row, : len(sample)] = positions[row]
        even = bool((lengths == longest).all())
        return cls(indices, layout, lengths=None if even else lengths, positions=places).validate()

    @classmethod
    def cat(cls, batches: Sequence[Tokens]) -> Tokens:
        """Join batches of one layout.

        Raises:
            TokenError: if the layouts differ or there is no batch.
        """
        if not batches:
            raise TokenError("there is no batch to join")
        if any(batch.layout != batches[0].layout for batch in batches):
            raise TokenError("batches of different layouts cannot be joined")
        return cls.from_samples(
            [sample for batch in batches for sample in batch._samples(batch.indices)],
            batches[0].layout,
            positions=None
            if batches[0].positions is None
            else [sample for batch in batches if batch.positions is not None for sample in batch._samples(batch.positions)],
        )

    def _samples(self, rows: Tensor) -> Iterator[Tensor]:
        for row, length in zip(rows.cpu(), self.sample_lengths.tolist(), strict=True):
            yield row[:length]

    def _places(self) -> Tensor:
        """(B, L): the storage place of every column of every sample."""
        if self.positions is not None:
            return self.positions
        return torch.arange(self.indices.shape[1], device=self.indices.device).expand_as(self.indices)

    def _check_positions(self, positions: Tensor) -> None:
        outside = torch.nonzero(((positions < 0) | (positions >= self.layout.length)) & self.mask)
        if len(outside):
            row, column = (int(value) for value in outside[0])
            raise TokenError(f"position {int(positions[row, column])} of sample {row}, column {column} is outside [0, {self.layout.length})")
        falling = torch.nonzero((positions[:, 1:] <= positions[:, :-1]) & self.mask[:, 1:])
        if len(falling):
            raise TokenError(f"positions of sample {int(falling[0, 0])} do not rise at column {int(falling[0, 1]) + 1}")


@dataclass(frozen=True, eq=False)
class Latents:
    """A batch of continuous latents, for tokenizers without a codebook.

    Attributes:
        values: (B, L, D) floats in storage order.
        layout: a continuous layout.
    """

    values: Tensor
    layout: TokenLayout

    def __post_init__(self) -> None:
        if not self.layout.is_continuous:
            raise TokenError("the layout holds ids: use Tokens")
        expected = (self.layout.length, self.layout.segments[0].channels)
        if self.values.ndim != 3 or tuple(self.values.shape[1:]) != expected:
            raise TokenError(f"latents must have shape (B, {expected[0]}, {expected[1]}), got {tuple(self.values.shape)}")

    def __len__(self) -> int:
        return len(self.values)

    def to(self, device: torch.device | str) -> Latents:
        """The same latents on another device."""
        return replace(self, values=self.values.to(device))
