"""What batches of tokens and of continuous latents share: samples of one kind of layout that may differ in length, in extent, and carry extras."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import Self

from visiontok.base.errors import TokenError
from visiontok.base.json_text import parse_json
from visiontok.base.npz import read_npz, write_npz
from visiontok.tokens.layout import Segment, TokenLayout

PAD = -1
"""The value of `indices` and `positions` beyond a sample's length: never a valid code, so that it cannot be decoded by mistake."""

SIGNAL_SIZE = "signal_size"
"""The name among a batch's extras of the exact size (B, A) of every signal."""

CLIPS = "clips"
"""The name among a batch's extras of the boundaries (B, clips, 1 + segments) of clips that are joined: samples or frames of each, and positions."""

_EXTRAS = "extras."


class SampleBatch(ABC):
    """Base of the dataclasses `Tokens` and `Latents`, which hold their data (B, L) or (B, L, D) in the field that `data` names.

    Attributes:
        layout: of every sample: of its kind, at the extent that all samples have or, where they differ, at the largest number along each axis.
        lengths: (B,) int64 positions held per sample; None when every sample holds L.
        positions: (B, L) int64 storage positions of kept tokens, rising, `PAD` beyond a sample's length; None when the tokens of a sample are its
            first ones.
        extents: (B, E) int64 positions of every sample along every axis of every segment; None when all are the layout's.
        extras: named tensors (B, ...) that a decoder needs besides, such as a clip's own codebook; `signal_size` (B, A) is the exact size of the
            signal that was encoded, where a tokenizer takes any.
    """

    _data_name: ClassVar[str]
    layout: TokenLayout
    lengths: Tensor | None
    positions: Tensor | None
    extents: Tensor | None
    extras: Mapping[str, Tensor]

    @property
    @abstractmethod
    def data(self) -> Tensor:
        """`indices` or `values`."""

    @abstractmethod
    def with_data(self, data: Tensor, **changes: Any) -> Self:
        """The same batch with other data, and other changes."""

    def _segment(self, name: str | None) -> Segment:
        """The segment of that name; without one, the only one.

        Raises:
            TokenError: if there is none of that name, or there are several and none is named.
        """
        segments = self.layout.segments
        if name is None and len(segments) > 1:
            raise TokenError(f"name a segment of {[segment.name for segment in segments]}")
        return segments[0] if name is None else self.layout.segment(name)

    def _check_shapes(self, what: str) -> None:
        layout, (samples, width) = self.layout, self.data.shape[:2]
        shorter = layout.prefixes != "none" or layout.ragged
        if width > layout.length:
            raise TokenError(f"{width} {what} per sample exceed the layout's {layout.length}")
        if width < layout.length and not (shorter or self.extents is not None):
            raise TokenError(f"{width} {what} per sample where this layout needs {layout.length}: no prefix of it decodes and it is not ragged")
        if self.lengths is not None:
            if self.lengths.shape != (samples,) or self.lengths.dtype != torch.int64:
                raise TokenError(f"lengths must be int64 of shape ({samples},), got {self.lengths.dtype} {tuple(self.lengths.shape)}")
            if not (shorter or self.extents is not None):
                raise TokenError("lengths were given for a layout that has no prefixes and is not ragged")
        if self.positions is not None:
            if not layout.ragged:
                raise TokenError("positions were given for a layout that is not ragged")
            if self.positions.shape != (samples, width) or self.positions.dtype != torch.int64:
                raise TokenError(f"positions must be int64 of shape {(samples, width)}, got {self.positions.dtype} {tuple(self.positions.shape)}")
        if self.extents is not None and (self.extents.shape != (samples, len(layout.extents)) or self.extents.dtype != torch.int64):
            raise TokenError(f"extents must be int64 of shape {(samples, len(layout.extents))}, got {self.extents.dtype} {tuple(self.extents.shape)}")
        for name, value in self.extras.items():
            if value.ndim < 1 or len(value) != samples:
                raise TokenError(f"the extra {name!r} has shape {tuple(value.shape)}; its first axis must be the {samples} samples")

    @classmethod
    def from_view(cls, data: Tensor, layout: TokenLayout) -> Self:
        """The inverse of `view`: a batch of full samples from its tensor.

        Args:
            data: (B, *positions) or (B, *positions, codebooks) int64 indices, or (B, *positions, D) float latents; on free axes any number of
                positions. Where the layout is not variable also in storage order, (B, L) or (B, L, D), or the first so many of an ordered one.
            layout: of the samples.

        Raises:
            TokenError: if the tensor has another shape or type.
        """
        segment, continuous = layout.segments[0], layout.is_continuous
        inner = (segment.channels,) if continuous else (segment.codebooks,) if segment.codebooks > 1 else ()
        axes, last = 1 + len(segment.shape), -1 if not continuous else -2
        if len(layout.segments) == 1 and data.ndim == axes + len(inner) and tuple(data.shape[axes:]) == inner:
            pairs = enumerate(zip(data.shape[1:axes], segment.shape, strict=True))
            if all(size == own or (size > 0 and axis in segment.free_axes) for axis, (size, own) in pairs):
                return cls(data.flatten(1, last), layout.at(data.shape[1:axes]))  # type: ignore[call-arg]
        if data.ndim == 2 + continuous and not layout.is_variable and layout.allows_prefix(data.shape[1]):
            return cls(data, layout)  # type: ignore[call-arg]
        raise TokenError(f"a tensor of shape {tuple(data.shape)} is no batch of this layout: expected {_expected_shape(layout, inner)}")

    def __len__(self) -> int:
        return len(self.data)

    @property
    def device(self) -> torch.device:
        return self.data.device

    @property
    def shape(self) -> torch.Size:
        """Of the indices (B, L) or values (B, L, D)."""
        return self.data.shape

    def numpy(self) -> np.ndarray:
        """A copy of the indices (B, L) or values (B, L, D, float32 where NumPy lacks their type) in main memory; all else: `to_arrays`."""
        data = self.data.detach()
        return (data.float() if data.dtype == torch.bfloat16 else data).cpu().numpy().copy()

    def __getitem__(self, rows: slice | Tensor) -> Self:
        """A sub-batch, no wider than its samples."""
        if not isinstance(rows, slice | Tensor):
            raise TypeError(f"index a batch with a slice or a tensor, not {type(rows).__name__}; use tokens[i:i + 1] for one sample")
        part = self.with_data(
            self.data[rows],
            lengths=None if self.lengths is None else self.lengths[rows],
            positions=None if self.positions is None else self.positions[rows],
            extents=None if self.extents is None else self.extents[rows],
            extras={name: value[rows] for name, value in self.extras.items()},
        )
        return part._tight()

    # What each sample holds.

    @property
    def sample_lengths(self) -> Tensor:
        """(B,) int64: positions held per sample, also where `lengths` is None."""
        if self.lengths is not None:
            return self.lengths
        return torch.full((len(self),), self.data.shape[1], dtype=torch.int64, device=self.data.device)

    @property
    def full_lengths(self) -> Tensor:
        """(B,) int64: positions of each sample's extent, held or not."""
        if self.extents is None:
            return torch.full((len(self),), self.layout.length, dtype=torch.int64, device=self.data.device)
        return torch.from_numpy(self.layout.lengths_at(self.extents.cpu().numpy())).to(self.data.device)

    @property
    def mask(self) -> Tensor:
        """(B, L) bool: True where something is held."""
        return torch.arange(self.data.shape[1], device=self.data.device) < self.sample_lengths[:, None]

    @property
    def is_full(self) -> bool:
        """Whether every sample holds every position of its extent (rising positions then contain no further information)."""
        if self.lengths is None and self.extents is None:
            return self.data.shape[1] == self.layout.length
        return bool((self.sample_lengths == self.full_lengths).all())

    @property
    def sample_extents(self) -> Tensor:
        """(B, E) int64: every sample's extents, also where `extents` is None."""
        if self.extents is not None:
            return self.extents
        return torch.tensor(self.layout.extents, dtype=torch.int64, device=self.data.device).expand(len(self), -1)

    def groups(self) -> Iterator[tuple[Tensor, Self]]:
        """Rows (n,) of samples of one extent, and the sub-batch whose layout has exactly that extent; every sample comes once."""
        if self.extents is None:
            yield torch.arange(len(self), device=self.data.device), self
            return
        for rows, _ in self._extent_groups():
            yield rows, self[rows]

    def _extent_groups(self) -> Iterator[tuple[Tensor, TokenLayout]]:
        """Rows of samples of one extent, and their layout."""
        if self.extents is None:
            if len(self):
                yield torch.arange(len(self), device=self.data.device), self.layout
            return
        found, group = torch.unique(self.extents, dim=0, return_inverse=True)
        for number, extents in enumerate(found.tolist()):
            yield torch.nonzero(group == number).flatten(), self.layout.at(extents)

    # Shorter forms.

    def prefix(self, num_tokens: int | Tensor) -> Self:
        """The first tokens of every sample.

        Args:
            num_tokens: one number for all samples, or (B,) int64 with one per sample.

        Raises:
            TokenError: if such prefixes of this layout do not decode, or a number is below 1 or above what a sample holds.
        """
        if self.layout.prefixes == "none":
            raise TokenError("prefixes of these tokens do not decode: the tokenizer was not trained with ordered tokens")
        requested = torch.as_tensor(num_tokens, dtype=torch.int64, device=self.data.device)
        if requested.ndim == 0:
            requested = requested.expand(len(self))
        held = self.sample_lengths
        if requested.shape != held.shape:
            raise TokenError(f"num_tokens must be a number or have shape ({len(self)},), got {tuple(requested.shape)}")
        wrong = torch.nonzero((requested < 1) | (requested > held)).flatten()
        if len(wrong):
            row = int(wrong[0])
            raise TokenError(f"sample {row} holds {int(held[row])} tokens, so a prefix of {int(requested[row])} cannot be taken (at least 1)")
        if isinstance(self.layout.prefixes, tuple):
            for row, count in enumerate(requested.tolist()):
                if count not in self.layout.prefixes and count != int(held[row]):
                    raise TokenError(f"a prefix of {count} tokens does not decode; these do: {', '.join(map(str, self.layout.prefixes))}")
        return self._cut(requested)

    def levels(self, count: int) -> Self:
        """The first `count` codebook levels of every sample: as if the tokenizer had written no more.

        Raises:
            TokenError: if they do not decode by themselves, or samples do not hold every position.
        """
        if count == self.layout.num_levels:
            return self
        if not self.is_full:
            raise TokenError("levels can be cut only where samples hold every position")
        self.layout.with_levels(count)
        parts, rows = [], []
        for where, group in self.groups():
            layout = group.layout
            short = layout.with_levels(count)
            keep = torch.cat([_level_mask(segment.length, segment.codebooks, short.segments, segment.name, count) for segment in layout.segments])
            data = group.data[:, torch.nonzero(keep).flatten().to(group.data.device)]
            parts.append(group.with_data(data, layout=short, lengths=None, positions=None, extents=None))
            rows.append(where)
        return type(self).from_groups(rows, parts)

    def _cut(self, lengths: Tensor) -> Self:
        """The first `lengths` (B,) positions of every sample, in as few columns as hold them."""
        longest = int(lengths.max()) if len(lengths) else self.data.shape[1]
        even = bool((lengths == longest).all())
        beyond = torch.arange(longest, device=lengths.device) >= lengths[:, None]
        blank = beyond if self.data.ndim == 2 else beyond[..., None]
        return self.with_data(
            self.data[:, :longest].masked_fill(blank, self._blank),
            lengths=None if even else lengths.clone(),
            positions=None if self.positions is None else self.positions[:, :longest].masked_fill(beyond, PAD),
        )

    @property
    @abstractmethod
    def _blank(self) -> float:
        """The padding beyond a sample's length."""

    # Joining, moving.

    @classmethod
    def cat(cls, batches: Sequence[Self]) -> Self:
        """Join batches of one kind of layout, whatever their extents.

        Where only some have positions, the others' are written out. Extras of different sizes are padded with zeros to the largest.

        Raises:
            TokenError: if the kinds of layout or the names of the extras differ, or there is no batch.
        """
        if not batches:
            raise TokenError("there is no batch to join")
        first = batches[0]
        for number, batch in enumerate(batches):
            if not first.layout.is_same_kind(batch.layout):
                raise TokenError(f"batches of different layouts cannot be joined: batch {number} has {batch.layout}, batch 0 has {first.layout}")
            if set(batch.extras) != set(first.extras):
                raise TokenError(f"batch {number} has the extras {sorted(batch.extras)}, batch 0 has {sorted(first.extras)}")
        layout = first.layout.at([max(sizes) for sizes in zip(*(batch.layout.extents for batch in batches), strict=True)])
        width = max(batch.data.shape[1] for batch in batches)
        with_positions = any(batch.positions is not None for batch in batches)
        differ = any(batch.extents is not None or batch.layout.extents != layout.extents for batch in batches)
        lengths = torch.cat([batch.sample_lengths for batch in batches])
        shorter = layout.ragged or layout.prefixes != "none" or differ
        joined = first.with_data(
            torch.cat([_widen(batch.data, width, batch._blank) for batch in batches]),
            layout=layout,
            lengths=lengths if shorter else None,
            positions=torch.cat([_widen(batch.columns.masked_fill(~batch.mask, PAD), width, PAD) for batch in batches]) if with_positions else None,
            extents=torch.cat([batch.sample_extents for batch in batches]) if differ else None,
            extras={name: cat_padded([batch.extras[name] for batch in batches]) for name in first.extras},
        )
        return joined._cut(lengths)._tight()

    @classmethod
    def from_groups(cls, rows: Sequence[Tensor], groups: Sequence[Self]) -> Self:
        """The inverse of `groups`: sample i of group k becomes sample `rows[k][i]`, on the device of the groups.

        Raises:
            TokenError: as `cat`.
        """
        joined, order = cls.cat(groups), torch.cat(list(rows))
        if bool((order == torch.arange(len(order), device=order.device)).all()):
            return joined
        return joined[torch.argsort(order).to(joined.data.device)]

    def _tight(self) -> Self:
        """No wider than the samples, with a layout no larger than theirs, and without lengths or extents where all are alike."""
        if (self.extents is None and self.lengths is None) or not len(self):
            return self
        layout, alike = self.layout, True
        if self.extents is not None:
            layout = layout.at(self.extents.amax(dim=0).tolist())
            alike = bool((self.extents == self.extents[:1]).all())
        longest = int(self.sample_lengths.max())
        even = bool((self.sample_lengths == longest).all())
        return self.with_data(
            self.data[:, :longest],
            layout=layout,
            lengths=None if even else self.lengths,
            positions=None if self.positions is None else self.positions[:, :longest],
            extents=None if alike else self.extents,
        )

    @property
    def columns(self) -> Tensor:
        """(B, L): the storage position of every column of every sample, within the sample's own extent."""
        if self.positions is not None:
            return self.positions
        width = self.data.shape[1]
        return torch.arange(width, device=self.data.device).expand(len(self), width)

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        moved = {name: None if (value := getattr(self, name)) is None else value.to(device) for name in ("lengths", "positions", "extents")}
        return self.with_data(self.data.to(device), **moved, extras={name: value.to(device) for name, value in self.extras.items()})

    def cpu(self) -> Self:
        """The same batch on the CPU."""
        return self.to("cpu")

    # Files.

    def save(self, path: str | Path) -> None:
        """Write an .npz file, which `load` reads."""
        write_npz(path, self.to_arrays())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and validate a file that `save` wrote.

        Raises:
            TokenError: if it is no such file, is damaged, or what it holds does not fit its layout.
            FileNotFoundError: if there is none.
        """
        try:
            return cls.from_arrays(read_npz(path))
        except TokenError as error:
            raise TokenError(f"{path}: {error}") from error
        except ValueError as error:
            raise TokenError(str(error)) from error

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The batch as NumPy arrays: `indices` or `values` (float32), `layout` as JSON text, `extras.NAME`, and `lengths`, `positions` and
        `extents` where there are any. Extras keep their types, but bfloat16, which NumPy lacks, becomes float32."""
        optional = {name: getattr(self, name) for name in ("lengths", "positions", "extents")}
        extras = {f"{_EXTRAS}{name}": value.float() if value.dtype == torch.bfloat16 else value for name, value in self.extras.items()}
        data = self.data.float() if self.data.is_floating_point() else self.data
        tensors = {self._data_name: data, **{name: value for name, value in optional.items() if value is not None}, **extras}
        arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
        return {"layout": np.asarray(self.layout.model_dump_json()), **arrays}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The inverse of `to_arrays`; other arrays are ignored.

        Raises:
            TokenError: if one is missing, or they do not fit each other.
        """
        missing = {"layout", cls._data_name} - set(arrays)
        if missing:
            raise TokenError(f"the array {sorted(missing)[0]!r} is missing; there are {sorted(arrays)}")
        try:
            layout = TokenLayout.parse(parse_json(str(arrays["layout"]), source="the layout"), source="the layout")
            tensors = {
                name: torch.from_numpy(array)
                for name, array in arrays.items()
                if name.startswith(_EXTRAS) or name in (cls._data_name, "lengths", "positions", "extents")
            }
        except (ValueError, TypeError) as error:
            raise TokenError(f"the arrays are not those of a batch of tokens: {error}") from error
        extras = {name.removeprefix(_EXTRAS): tensors.pop(name) for name in list(tensors) if name.startswith(_EXTRAS)}
        return cls(**tensors, layout=layout, extras=extras).validate()  # type: ignore[call-arg]

    @abstractmethod
    def validate(self) -> Self:
        """Check what a batch holds; returns self.

        Raises:
            TokenError: naming the sample.
        """

    # Checks of values.

    def _check_samples(self) -> None:
        """Lengths, extents, positions and padding.

        Raises:
            TokenError: naming the sample.
        """
        lengths = self.sample_lengths
        wrong = torch.nonzero((lengths < 0) | (lengths > self.data.shape[1])).flatten()
        if len(wrong):
            raise TokenError(f"sample {int(wrong[0])} has length {int(lengths[wrong[0]])}, outside [0, {self.data.shape[1]}]")
        if self.extents is not None:
            most = torch.tensor(self.layout.extents, dtype=torch.int64, device=self.extents.device)
            least = torch.where(torch.tensor(self.layout.has_free_axis, device=most.device), 1, most)
            wrong = torch.nonzero(((self.extents > most) | (self.extents < least)).any(dim=1)).flatten()
            if len(wrong):
                row = int(wrong[0])
                raise TokenError(f"sample {row} has extents {self.extents[row].tolist()}, which are none of a layout with {self.layout.extents}")
            full = self.full_lengths
            shorter = self.layout.ragged or self.layout.prefixes != "none"
            wrong = torch.nonzero((lengths > full) | ((lengths < full) & (not shorter))).flatten()
            if len(wrong):
                row = int(wrong[0])
                raise TokenError(f"sample {row} holds {int(lengths[row])} positions; its extents {self.extents[row].tolist()} have {int(full[row])}")
        if self.positions is not None:
            positions, full = self.positions, self.full_lengths[:, None]
            found = first_wrong((positions < 0) | (positions >= full), self.mask)
            if found is not None:
                row, column = found
                raise TokenError(f"position {int(positions[row, column])} of sample {row}, column {column} is outside [0, {int(full[row])})")
            found = first_wrong(positions[:, 1:] <= positions[:, :-1], self.mask[:, 1:])
            if found is not None:
                raise TokenError(f"positions of sample {found[0]} do not rise at column {found[1] + 1}")
            self._check_padding("position", positions)

    def _check_padding(self, what: str, values: Tensor) -> None:
        found = first_wrong(values != PAD, ~self.mask)
        if found is not None:
            row, column = found
            length = int(self.sample_lengths[row])
            raise TokenError(f"sample {row} holds {length} tokens, but {what} {int(values[row, column])} is in column {column} instead of {PAD}")


def check_layout(layout: Any) -> None:
    """Raise TokenError if this is no layout."""
    if not isinstance(layout, TokenLayout):
        raise TokenError(f"a TokenLayout is required, such as that of a tokenizer, not {type(layout).__name__}")


def _expected_shape(layout: TokenLayout, inner: tuple[int | None, ...]) -> str:
    """What `from_view` takes, in words; `inner` are the axes behind the positions."""
    segment, behind = layout.segments[0], [str(size) for size in inner]
    sizes = ["any" if axis in segment.free_axes else str(size) for axis, size in enumerate(segment.shape)]
    shapes = [] if len(layout.segments) > 1 else [f"(B, {', '.join([*sizes, *behind])})"]
    if not layout.is_variable:
        shapes.append(f"(B, {', '.join([str(layout.length), *(behind if layout.is_continuous else [])])})")
    return " or ".join(dict.fromkeys(shapes)) or f"Tokens, which hold how many positions each of its {len(layout.segments)} segments has"


def _level_mask(length: int, codebooks: int, kept: Sequence[Any], name: str, count: int) -> Tensor:
    """(length,) bool: which tokens of a segment belong to the first `count` levels."""
    if all(segment.name != name for segment in kept):
        return torch.zeros(length, dtype=torch.bool)
    codebook = torch.arange(length) % codebooks
    return codebook < count if codebooks > 1 else torch.ones(length, dtype=torch.bool)


def cat_padded(values: Sequence[Tensor]) -> Tensor:
    """Tensors (n, ...) of one number of axes behind each other, padded with zeros to the largest."""
    shape = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]
    padded = []
    for value in values:
        amounts = [(0, most - size) for size, most in zip(value.shape[1:], shape, strict=True)]
        padded.append(pad(value, [amount for pair in reversed(amounts) for amount in pair]) if any(most for _, most in amounts) else value)
    return torch.cat(padded)


def first_wrong(wrong: Tensor, among: Tensor) -> tuple[int, int] | None:
    """Row and column of the first entry that is `wrong` (B, L) `among` (B, L) those that count."""
    found = torch.nonzero(wrong & among)
    return (int(found[0, 0]), int(found[0, 1])) if len(found) else None


def _widen(rows: Tensor, width: int, value: float) -> Tensor:
    missing = width - rows.shape[1]
    return pad(rows, (0, missing) if rows.ndim == 2 else (0, 0, 0, missing), value=value)
