"""Token sets for training and evaluation: random access to the samples of Parquet shards."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data._utils.collate import default_collate_fn_map

from visiontok.base.errors import DataError, TokenError
from visiontok.base.file_names import check_name
from visiontok.base.files import file_sha256
from visiontok.core.identity import TokenizerIdentity
from visiontok.data.token_shards import MANIFEST, ExtraColumn, Manifest, Shard, TokenSetHeader, check_alike, check_keys, check_shard_sha256
from visiontok.tokens import Latents, TokenLayout, Tokens
from visiontok.tokens.batch import cat_padded


@dataclass(frozen=True)
class TokenBatch:
    """Some samples of a token set.

    Attributes:
        tokens: B samples.
        labels: (B,) int64; None for sets in which a sample has no label.
        captions: B texts, None where there is none.
        keys: B names.
    """

    tokens: Tokens | Latents
    labels: Tensor | None
    captions: list[str | None]
    keys: list[str]


@dataclass(frozen=True)
class TokenSample:
    """One sample of a token set. `torch.utils.data.default_collate`, and so a plain `DataLoader`, makes a `TokenBatch` of several.

    Attributes:
        tokens: a batch of this one sample.
        label: its class; None in sets in which a sample has no label.
        caption: its text, None where there is none.
        key: its name.
    """

    tokens: Tokens | Latents
    label: int | None
    caption: str | None
    key: str


def collate(samples: Sequence[TokenSample], **_: Any) -> TokenBatch:
    """Samples of one token set, which may differ in length and extent, as a batch; further options of `default_collate` do not matter."""
    batch_class: Any = type(samples[0].tokens)
    labels = [sample.label for sample in samples]
    return TokenBatch(
        tokens=batch_class.cat([sample.tokens for sample in samples]),
        labels=None if None in labels else torch.tensor(labels, dtype=torch.int64),
        captions=[sample.caption for sample in samples],
        keys=[sample.key for sample in samples],
    )


default_collate_fn_map[TokenSample] = collate


class TokenDataset(Dataset[TokenSample]):
    """Samples of a finished token set, or of some of its shards, held in memory in their smallest integers. A map-style data set of PyTorch.

    Args:
        paths: a folder with a manifest, or the shards themselves.
        verify_checksums: whether the shards of a folder are compared with the SHA-256 in its manifest, which takes about a second per GB.

    Attributes:
        header: what all shards agree on.
        layout: of the samples; where it has free axes, at the largest extents that occur.
        labels: (N,) int64; None if any sample has no label.

    Raises:
        DataError: if the set is not finished, a shard is missing, damaged or of another set, or rows do not fit the layout or hold values that
            no tokenizer writes: keys of nothing, keys of two samples, negative labels, numbers of another kind, NaN.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path], *, verify_checksums: bool = True) -> None:
        if isinstance(paths, str | Path):
            self.shards = _shards_of(Path(paths), verify_checksums=verify_checksums)
        else:
            self.shards = [Shard.read(path) for path in paths]
        if not self.shards:
            raise DataError("no token shards were given")
        self.header: TokenSetHeader = self.shards[0].header
        check_alike(self.header, self.shards)
        self._parts = [_Part.read(shard) for shard in self.shards]
        check_keys([(shard.path, part.key) for shard, part in zip(self.shards, self._parts, strict=True)])
        self._ends = np.cumsum([shard.rows for shard in self.shards])
        labels = pa.chunked_array([part.label for part in self._parts])
        self.labels = None if labels.null_count else torch.from_numpy(labels.to_numpy().astype(np.int64))
        self.layout: TokenLayout = self.header.layout
        extents = [part.extents for part in self._parts if part.extents is not None and len(part.extents)]
        if extents:
            self.layout = self.layout.at(np.concatenate(extents).max(axis=0).tolist())

    @property
    def tokenizer(self) -> TokenizerIdentity:
        """Whose tokens these are."""
        return self.header.tokenizer

    @property
    def keys(self) -> list[str]:
        """Of all samples, in order."""
        return [key for part in self._parts for key in part.key.to_pylist()]

    def __len__(self) -> int:
        return int(self._ends[-1])

    @overload
    def __getitem__(self, rows: SupportsIndex) -> TokenSample: ...

    @overload
    def __getitem__(self, rows: slice) -> TokenBatch: ...

    def __getitem__(self, rows: SupportsIndex | slice) -> TokenSample | TokenBatch:
        """One sample, the last for -1; or those of a slice as a batch.

        Raises:
            IndexError: for a row outside [-len, len).
        """
        if isinstance(rows, slice):
            return self.batch(range(*rows.indices(len(self))))
        if not isinstance(rows, SupportsIndex):
            raise TypeError(f"index a token set with a number or a slice, or use batch(rows), not {type(rows).__name__}")
        row = operator.index(rows)
        found = self.batch([row + len(self) if -len(self) <= row < 0 else row])
        label = None if found.labels is None else int(found.labels[0])
        return TokenSample(found.tokens, label, found.captions[0], found.keys[0])

    def batch(self, rows: Iterable[int]) -> TokenBatch:
        """The samples of these rows, in this order.

        Raises:
            IndexError: for a row outside [0, len).
            DataError: naming the sample whose tokens do not fit the layout.
        """
        numbers = [int(row) for row in rows]
        wrong = [row for row in numbers if not 0 <= row < len(self)]
        if wrong:
            raise IndexError(f"row {wrong[0]} is outside [0, {len(self)})")
        shards = np.searchsorted(self._ends, numbers, side="right")
        found = [(self._parts[shard], row - int(self._ends[shard] - len(self._parts[shard].key))) for shard, row in zip(shards, numbers, strict=True)]
        keys = [part.key[row].as_py() for part, row in found]
        try:
            tokens = self._tokens(found)
        except TokenError as error:
            raise DataError(f"the samples {keys[:8]}{' ...' if len(keys) > 8 else ''} do not fit their layout: {error}") from error
        return TokenBatch(
            tokens=tokens,
            labels=None if self.labels is None else self.labels[numbers],
            captions=[part.caption[row].as_py() for part, row in found],
            keys=keys,
        )

    def _tokens(self, found: Sequence[tuple[_Part, int]]) -> Tokens | Latents:
        """The samples in these rows of parts."""
        samples = [part.sample(row) for part, row in found]
        positions = None
        if any(part.positions is not None and part.positions.held[row] for part, row in found):
            positions = [
                part.positions.row(row) if part.positions is not None and part.positions.held[row] else torch.arange(len(sample))
                for (part, row), sample in zip(found, samples, strict=True)
            ]
        extents = [part.extents[row] for part, row in found if part.extents is not None]
        names = found[0][0].extras if found else {}
        extras = {name: cat_padded([part.extras[name].sample(row) for part, row in found]) for name in names}
        batch_class = Latents if self.layout.is_continuous else Tokens
        return batch_class.from_samples(
            samples, self.layout, positions=positions, extents=torch.from_numpy(np.stack(extents)) if extents else None, extras=extras
        )


@dataclass(frozen=True)
class _Lists:
    """A list column: all values in one array, and where each row's begin."""

    values: np.ndarray
    offsets: np.ndarray
    held: np.ndarray

    @classmethod
    def read(cls, column: pa.ListArray, path: Path) -> _Lists:
        values = column.values
        if values.null_count:
            raise DataError(f"{path} has a list with a null in it")
        return cls(
            values.to_numpy(zero_copy_only=False),
            column.offsets.to_numpy().astype(np.int64),
            column.is_valid().to_numpy(zero_copy_only=False),
        )

    @property
    def counts(self) -> np.ndarray:
        return np.diff(self.offsets)

    def row(self, row: int) -> Tensor:
        """Its values; integers as int64."""
        values = self.values[self.offsets[row] : self.offsets[row + 1]]
        return torch.from_numpy(values.astype(np.int64 if values.dtype.kind in "iu" else values.dtype))


@dataclass(frozen=True)
class _Extra:
    """The column of one extra."""

    lists: _Lists
    column: ExtraColumn

    def sample(self, row: int) -> Tensor:
        """(1, *shape)."""
        return self.lists.row(row).to(getattr(torch, self.column.dtype)).reshape(1, *self.column.shape)


@dataclass(frozen=True)
class _Part:
    """The columns of one shard."""

    key: pa.Array
    label: pa.Array
    caption: pa.Array
    data: _Lists
    width: int | None  # of a latent; None for tokens
    positions: _Lists | None
    extents: np.ndarray | None
    extras: Mapping[str, _Extra]

    def sample(self, row: int) -> Tensor:
        """(L,) int64 tokens, or (L, D) latents."""
        values = self.data.row(row)
        return values if self.width is None else values.reshape(-1, self.width)

    @classmethod
    def read(cls, shard: Shard) -> _Part:
        try:
            table = pq.read_table(shard.path, use_threads=False, memory_map=False).combine_chunks()
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{shard.path} is damaged: {error}. Delete it and make it again") from error
        layout, path = shard.header.layout, shard.path
        columns = {name: _whole(table.column(name)) for name in table.column_names}
        data_name = "latents" if layout.is_continuous else "tokens"
        extras = shard.extras if shard.rows else {}
        needed = {"key", "label", "caption", data_name, *(f"extra_{name}" for name in extras)}
        needed |= ({"positions"} if layout.ragged else set()) | ({"extents"} if layout.is_variable else set())
        missing = needed - set(columns)
        if missing:
            raise DataError(f"{path} lacks the columns {sorted(missing)}; it has {table.column_names}")
        _check_columns(columns, data_name, shard)
        data = _Lists.read(columns[data_name], path)
        extents = _extents(_Lists.read(columns["extents"], path), layout, path) if layout.is_variable else None
        _check_counts(data, layout, extents, columns["key"], path)
        if layout.is_continuous and not bool(np.isfinite(data.values).all()):
            raise DataError(f"{path}: the latents hold NaN or infinity")
        return cls(
            columns["key"],
            columns["label"],
            columns["caption"],
            data,
            layout.segments[0].channels,
            _Lists.read(columns["positions"], path) if layout.ragged else None,
            extents,
            {name: _extra(name, extra, _Lists.read(columns[f"extra_{name}"], path), path) for name, extra in extras.items()},
        )


def _check_columns(columns: Mapping[str, pa.Array], data_name: str, shard: Shard) -> None:
    """Types of the columns, keys of all rows, and labels that are classes."""
    path, is_value = shard.path, pa.types.is_floating if shard.header.layout.is_continuous else pa.types.is_integer
    expected: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
        "key": (pa.types.is_string, "texts"),
        "label": (pa.types.is_integer, "integers"),
        "caption": (pa.types.is_string, "texts"),
        data_name: (_lists_of(is_value), "lists of floats" if shard.header.layout.is_continuous else "lists of integers"),
        "positions": (_lists_of(pa.types.is_integer), "lists of integers"),
        "extents": (_lists_of(pa.types.is_integer), "lists of integers"),
    }
    for name, (fits, what) in expected.items():
        if name in columns and not fits(columns[name].type) and not (name in ("label", "caption") and pa.types.is_null(columns[name].type)):
            raise DataError(f"{path}: the column {name!r} has the type {columns[name].type}, expected {what}")
    if columns["key"].null_count:
        raise DataError(f"{path}: row {columns['key'].is_null().index(True).as_py()} has no key")
    labels = columns["label"].drop_null()
    if len(labels) and pc.min(labels).as_py() < 0:
        raise DataError(f"{path}: label {pc.min(labels).as_py()} is negative; a sample has a class, or none")
    names = shard.header.class_names
    if len(labels) and names and pc.max(labels).as_py() >= len(names):
        raise DataError(f"{path}: label {pc.max(labels).as_py()} has no name: there are {len(names)} classes")


def _lists_of(is_value: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    return lambda kind: pa.types.is_list(kind) and is_value(kind.value_type)


def _extents(lists: _Lists, layout: TokenLayout, path: Path) -> np.ndarray:
    """(N, E) int64."""
    axes = len(layout.extents)
    if bool((lists.counts != axes).any()):
        raise DataError(f"{path}: the extents of every sample must be {axes} numbers")
    extents = lists.values[lists.offsets[0] :][: axes * len(lists.held)].reshape(-1, axes).astype(np.int64)
    wrong = np.flatnonzero((extents < np.where(layout.has_free_axis, 1, layout.extents)).any(axis=1))
    if len(wrong):
        raise DataError(f"{path}, row {wrong[0]}: extents {extents[wrong[0]].tolist()} are none of a layout with {layout.extents}")
    return extents


def _check_counts(data: _Lists, layout: TokenLayout, extents: np.ndarray | None, keys: pa.Array, path: Path) -> None:
    """Every row holds as many values as its extents require, or fewer where samples may be shorter."""
    full = np.full(len(data.held), layout.length) if extents is None else layout.lengths_at(extents)
    width = layout.segments[0].channels or 1
    counts, rest = np.divmod(data.counts, width)
    least = 0 if layout.ragged or layout.prefixes != "none" else full
    wrong = np.flatnonzero((counts < least) | (counts > full) | (rest > 0) | ~data.held)
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"{path}, row {row} ({keys[row]}): {data.counts[row]} values where its layout has {full[row] * width}")


def _extra(name: str, column: ExtraColumn, lists: _Lists, path: Path) -> _Extra:
    if bool((lists.counts != math.prod(column.shape)).any()) or not isinstance(getattr(torch, column.dtype, None), torch.dtype):
        raise DataError(f"{path}: the extra {name!r} does not hold values of shape {column.shape} and type {column.dtype}")
    return _Extra(lists, column)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _shards_of(folder: Path, *, verify_checksums: bool) -> list[Shard]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name a folder of token shards, or give the shards in a list")
    if not (folder / MANIFEST).is_file():
        found = len(list(folder.glob("part-*.parquet")))
        raise DataError(
            f"{folder} has {found} token shards and no {MANIFEST}, so it is not a finished token set. "
            "Run the command that makes it again to continue, or give the shards in a list to read them as they are"
        )
    manifest = Manifest.load(folder / MANIFEST)
    shards = []
    for name, rows in manifest.shards.items():
        try:
            check_name(name)
        except ValueError as error:
            raise DataError(f"{folder / MANIFEST} names a shard that is not a file of its folder: {error}") from error
        if not (folder / name).is_file():
            raise DataError(f"{folder / name} is missing, but {MANIFEST} names it")
        if verify_checksums:
            check_shard_sha256(folder / name, file_sha256(folder / name), manifest.sha256.get(name))
        shard = Shard.read(folder / name)
        if shard.rows != rows:
            raise DataError(f"{shard.path} has {shard.rows} rows, {MANIFEST} says {rows}")
        shards.append(shard)
    check_alike(manifest.header, shards)
    return shards
