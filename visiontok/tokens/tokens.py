"""Tokens: what every tokenizer emits, every generator reads and every file stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import Self

from visiontok.base.errors import TokenError
from visiontok.base.pytrees import registered
from visiontok.tokens.batch import PAD, SampleBatch, check_layout, first_wrong
from visiontok.tokens.layout import TokenLayout
from visiontok.tokens.packing import pack_rows, unpack_rows


@registered(layout=TokenLayout)
@dataclass(frozen=True, eq=False)
class Tokens(SampleBatch):
    """A batch of tokens.

    Attributes:
        indices: (B, L) int64 code indices, every token of a sample in storage order; `PAD` beyond a sample's length.
        layout, lengths, positions, extents, extras: see `SampleBatch`.
    """

    _data_name: ClassVar[str] = "indices"
    indices: Tensor
    layout: TokenLayout
    lengths: Tensor | None = None
    positions: Tensor | None = None
    extents: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_layout(self.layout)
        if self.layout.is_continuous:
            raise TokenError("the layout is continuous: use Latents")
        if self.indices.ndim != 2 or self.indices.dtype != torch.int64:
            raise TokenError(f"indices must be int64 of shape (B, L), got {self.indices.dtype} {tuple(self.indices.shape)}")
        self._check_shapes("tokens")

    @property
    def data(self) -> Tensor:
        return self.indices

    def with_data(self, data: Tensor, **changes: Any) -> Self:
        return replace(self, indices=data, **changes)

    @property
    def _blank(self) -> float:
        return PAD

    @property
    def bits(self) -> Tensor:
        """(B,) float64: nominal bits of each sample, the sum of log2 V over the tokens it holds."""
        return (torch.log2(self._vocab_sizes().double()) * self.mask).sum(dim=1)

    def view(self, segment: str | None = None) -> Tensor:
        """The shaped indices of one segment: (B, *shape), or (B, *shape, codebooks) with several codebooks.

        Args:
            segment: its name; needed where the layout has several.

        Raises:
            TokenError: if samples differ in extent or one does not hold all of its tokens.
        """
        part = self._segment(segment)
        if self.extents is not None:
            raise TokenError("samples of different extents have no common shape; take them one by one, or by groups()")
        if not self.is_full:
            raise TokenError("samples that do not hold every token of the layout have no shaped view; use indices, lengths and positions")
        shape = part.shape if part.codebooks == 1 else (*part.shape, part.codebooks)
        return self.indices[:, self.layout.slice(part.name)].reshape(len(self), *shape)

    def validate(self) -> Self:
        """Check every index against its vocabulary; returns self.

        Raises:
            TokenError: naming the sample, the position and the segment of the first wrong index, length, extent or position.
        """
        if torch.compiler.is_compiling():  # an exported program cannot branch on values
            return self
        self._check_samples()
        sizes = self._vocab_sizes()
        found = first_wrong((self.indices < 0) | (self.indices >= sizes), self.mask)
        if found is not None:
            row, column = found
            layout = self.layout if self.extents is None else self.layout.at(self.extents[row].tolist())
            where = layout.describe(int(self.columns[row, column]))
            raise TokenError(f"index {int(self.indices[row, column])} of sample {row} at {where} is outside [0, {int(sizes[row, column])})")
        self._check_padding("index", self.indices)
        return self

    def pack(self) -> list[bytes]:
        """One byte string per sample: its tokens at `ceil(log2 V)` bits each. Lengths, positions and extents are kept beside them, by the caller."""
        self.validate()
        packed = [b""] * len(self)
        rows = self.indices.cpu().numpy()
        for samples, columns, layout in self._alike():
            for sample, payload in zip(samples, pack_rows(rows[samples, : len(columns)], layout.bit_widths[columns]), strict=True):
                packed[sample] = payload
        return packed

    @classmethod
    def unpack(
        cls,
        data: Sequence[bytes],
        layout: TokenLayout,
        *,
        lengths: Sequence[int] | None = None,
        positions: Sequence[Sequence[int]] | None = None,
        extents: Sequence[Sequence[int]] | None = None,
    ) -> Tokens:
        """Inverse of `pack`.

        Args:
            data: one byte string per sample.
            layout: of the samples.
            lengths: tokens per sample; needed where samples are not full.
            positions: storage positions per sample, where tokens keep theirs; their number is the sample's length.
            extents: positions along every axis per sample, where samples differ in extent.

        Raises:
            TokenError: if the bytes do not fit the layout.
        """
        counts = _counts(len(data), layout, lengths, positions, extents)
        blank = [torch.zeros(count, dtype=torch.int64) for count in counts]
        kept = None if positions is None else [torch.as_tensor(row, dtype=torch.int64) for row in positions]
        # Zeros are valid everywhere, so this checks lengths, positions and extents before any byte is read by them.
        tokens = cls.from_samples(blank, layout, positions=kept, extents=None if extents is None else torch.as_tensor(extents, dtype=torch.int64))
        rows = tokens.indices.numpy()
        for samples, columns, own in tokens._alike():
            payloads = [data[sample] for sample in samples]
            rows[samples, : len(columns)] = unpack_rows(payloads, own.bit_widths[columns], numbers=samples.tolist())
        return tokens.validate()

    @classmethod
    def from_samples(
        cls,
        samples: Sequence[Tensor],
        layout: TokenLayout,
        *,
        positions: Sequence[Tensor] | None = None,
        extents: Tensor | None = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> Tokens:
        """Batch samples of varying length (each (L_i,) int64), padded with `PAD`.

        Args:
            samples: the code indices of each sample.
            layout: their layout; with `extents`, at extents that hold every sample's.
            positions: the storage positions of each sample's tokens, where they keep theirs.
            extents: (B, E) int64 positions of every sample along every axis of every segment; None where all are the layout's.
            extras: named tensors (B, ...).

        Raises:
            TokenError: if samples, positions, extents and layout do not fit each other, or an index is out of range.
        """
        for row, sample in enumerate(samples):
            if sample.ndim != 1 or sample.dtype != torch.int64:
                raise TokenError(f"sample {row} must be int64 of shape (L,), got {sample.dtype} {tuple(sample.shape)}")
        if positions is not None and [len(row) for row in positions] != [len(sample) for sample in samples]:
            raise TokenError("positions must hold one storage position for every token of every sample")
        if not len(samples):
            empty = torch.empty(0, layout.length, dtype=torch.int64)
            return cls(empty, layout, positions=None if positions is None else empty.clone(), extras=extras or {})
        data = pad_sequence(list(samples), batch_first=True, padding_value=PAD)
        return cls(data, layout, **_beside(samples, positions), extents=extents, extras=extras or {}).validate()._tight()

    def _alike(self) -> Iterator[tuple[np.ndarray, np.ndarray, TokenLayout]]:
        """Rows of samples that hold the same storage positions of one extent, with those positions and the layout of that extent."""
        lengths = self.sample_lengths.cpu().numpy()
        positions = None if self.positions is None else self.positions.cpu().numpy()
        for group, layout in self._extent_groups():
            rows = group.cpu().numpy()
            if positions is None:
                for length in np.unique(lengths[rows]):
                    yield rows[lengths[rows] == length], np.arange(length), layout
            else:
                for row in rows:
                    yield np.asarray([row]), positions[row, : lengths[row]], layout

    def _vocab_sizes(self) -> Tensor:
        """(B, L) int64: the vocabulary size of every column of every sample; 1 beyond a sample's extent."""
        columns = self.columns.clamp_min(0)
        sizes = torch.ones_like(columns)
        for rows, layout in self._extent_groups():
            sizes[rows] = torch.from_numpy(layout.vocab_sizes_at(columns[rows].cpu().numpy())).to(columns.device)
        return sizes


@registered(layout=TokenLayout)
@dataclass(frozen=True, eq=False)
class Latents(SampleBatch):
    """A batch of continuous latents, for tokenizers without a codebook.

    Attributes:
        values: (B, L, D) floats in storage order; 0 beyond a sample's length.
        layout: a continuous layout.
        lengths, positions, extents, extras: see `SampleBatch`.
    """

    _data_name: ClassVar[str] = "values"
    values: Tensor
    layout: TokenLayout
    lengths: Tensor | None = None
    positions: Tensor | None = None
    extents: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_layout(self.layout)
        if not self.layout.is_continuous:
            raise TokenError("the layout holds tokens: use Tokens")
        channels = self.layout.segments[0].channels
        if self.values.ndim != 3 or self.values.shape[2] != channels or not self.values.is_floating_point():
            found = f"{self.values.dtype} {tuple(self.values.shape)}"
            raise TokenError(f"latents must be floats of shape (B, {self.layout.length}, {channels}), got {found}")
        self._check_shapes("latents")

    @property
    def data(self) -> Tensor:
        return self.values

    def with_data(self, data: Tensor, **changes: Any) -> Self:
        return replace(self, values=data, **changes)

    @property
    def _blank(self) -> float:
        return 0.0

    def view(self, segment: str | None = None) -> Tensor:
        """(B, *shape, D): the latents of one segment in its shape.

        Raises:
            TokenError: if there are several segments and none is named, samples differ in extent, or one does not hold all of its latents.
        """
        part = self._segment(segment)
        if self.extents is not None or not self.is_full:
            raise TokenError(
                f"{self.values.shape[1]} latents where the layout has {self.layout.length}, or samples of different extents, have no shape"
            )
        return self.values[:, self.layout.slice(part.name)].unflatten(1, part.shape)

    def validate(self) -> Self:
        """Check lengths, extents and positions, and that every value is finite; returns self.

        Raises:
            TokenError: naming the sample.
        """
        if torch.compiler.is_compiling():
            return self
        self._check_samples()
        wrong = torch.nonzero(~self.values.isfinite().flatten(1).all(dim=1)).flatten()
        if len(wrong):
            raise TokenError(f"the latents of sample {int(wrong[0])} hold NaN or infinity")
        return self

    @classmethod
    def from_samples(
        cls,
        samples: Sequence[Tensor],
        layout: TokenLayout,
        *,
        positions: Sequence[Tensor] | None = None,
        extents: Tensor | None = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> Latents:
        """Batch samples of varying length, each (L_i, D) floats; see `Tokens.from_samples`.

        Raises:
            TokenError: if samples, positions, extents and layout do not fit each other, or a value is not finite.
        """
        if not len(samples):
            return cls(torch.empty(0, layout.length, layout.segments[0].channels or 0, dtype=torch.float32), layout, extras=extras or {})
        data = pad_sequence(list(samples), batch_first=True)
        return cls(data, layout, **_beside(samples, positions), extents=extents, extras=extras or {}).validate()._tight()


def as_tokens(tokens: Tokens | Latents | Tensor, layout: TokenLayout) -> Tokens | Latents:
    """What was given in the place of tokens: a batch as it is, a tensor as `from_view` reads it.

    Raises:
        TokenError: if it is neither, or a tensor of another shape or type than the layout's.
    """
    if isinstance(tokens, Tensor):
        return (Latents if layout.is_continuous else Tokens).from_view(tokens, layout)
    if not isinstance(tokens, Tokens | Latents):
        raise TokenError(f"expected Tokens, Latents or a tensor of them, got {type(tokens).__name__}")
    return tokens


def _beside(samples: Sequence[Tensor], positions: Sequence[Tensor] | None) -> dict[str, Tensor | None]:
    """`lengths` and `positions` of a batch of these samples, at least one."""
    lengths = torch.as_tensor([len(sample) for sample in samples], device=samples[0].device)
    return {
        "lengths": None if bool((lengths == lengths[0]).all()) else lengths,
        "positions": None if positions is None else pad_sequence(list(positions), batch_first=True, padding_value=PAD),
    }


def _counts(
    samples: int,
    layout: TokenLayout,
    lengths: Sequence[int] | None,
    positions: Sequence[Sequence[int]] | None,
    extents: Sequence[Sequence[int]] | None,
) -> Sequence[int]:
    """Tokens per sample, as given to `Tokens.unpack`."""
    full = [layout.length] * samples if extents is None else [layout.at(row).length for row in extents]
    counts = full if lengths is None else lengths
    if positions is not None:
        counts = [len(row) for row in positions]
    if not len(counts) == len(full) == samples:
        raise TokenError(f"{samples} samples were given with lengths, positions or extents of {len(counts)}")
    for row, (count, most) in enumerate(zip(counts, full, strict=True)):
        if not 0 <= count <= most:
            raise TokenError(f"sample {row} cannot hold {count} tokens: its extent has {most}")
    return counts
