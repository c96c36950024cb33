"""Blocks of token sets: the rows of one row group of a shard, decoded and checked; and a bounded number of them in memory."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from visiontok.base.errors import DataError
from visiontok.base.files import check_regular
from visiontok.data.token_shards import ExtraColumn, Shard
from visiontok.tokens import TokenLayout


@dataclass(frozen=True)
class _Lists:
    """A list column: all values in one array, and where each row's begin."""

    values: np.ndarray
    offsets: np.ndarray
    held: np.ndarray

    @classmethod
    def read(cls, column: pa.ListArray, path: str) -> _Lists:
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
class TokenBlock:
    """The rows of one row group.

    Attributes:
        nbytes: of memory.
        key, label, caption: one value per row; labels and captions may be null.
        data: tokens, or the values of latents.
        width: of a latent; None for tokens.
        kept: storage positions; None for layouts that are not ragged.
        extents: (N, E) int64; None for layouts without free axes.
        extras: by name.
    """

    nbytes: int
    key: pa.Array
    label: pa.Array
    caption: pa.Array
    data: _Lists
    width: int | None
    kept: _Lists | None
    extents: np.ndarray | None
    extras: Mapping[str, _Extra]

    def sample(self, row: int) -> Tensor:
        """(L,) int64 tokens, or (L, D) latents."""
        values = self.data.row(row)
        return values if self.width is None else values.reshape(-1, self.width)

    def positions(self, row: int) -> Tensor | None:
        """(L,) int64 storage positions; None where the tokens are a sample's first ones."""
        return self.kept.row(row) if self.kept is not None and self.kept.held[row] else None


def read_blocks(shard: Shard) -> Iterator[TokenBlock]:
    """The row groups of a shard, one after the other.

    Raises:
        DataError: if the file is damaged, is not the one whose metadata was read, or its rows do not fit the layout or hold values that no tokenizer
            writes: keys of nothing, negative labels, numbers of another kind, NaN.
    """
    with _opened(shard) as file:
        first = 0
        for number, rows in enumerate(shard.row_groups):
            yield _read(file, shard, number, first=first)
            first += rows


def read_block(shard: Shard, number: int) -> TokenBlock:
    """Row group `number` of a shard.

    Raises:
        DataError: see `read_blocks`.
    """
    with _opened(shard) as file:
        return _read(file, shard, number, first=sum(shard.row_groups[:number]))


class BlockCache:
    """The blocks that were read last, as many as fit.

    Args:
        read: reads a block by its number.
        max_bytes: memory of the blocks that are kept; one is kept in any case.
    """

    def __init__(self, read: Callable[[int], TokenBlock], *, max_bytes: int) -> None:
        self._read, self._max_bytes = read, max_bytes
        self._blocks: OrderedDict[int, TokenBlock] = OrderedDict()
        self._nbytes = 0

    def __getitem__(self, number: int) -> TokenBlock:
        block = self._blocks.pop(number, None)
        if block is None:
            block = self._read(number)
            self._nbytes += block.nbytes
        self._blocks[number] = block
        while self._nbytes > self._max_bytes and len(self._blocks) > 1:
            self._nbytes -= self._blocks.popitem(last=False)[1].nbytes
        return block

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process reads its own."""
        return {**self.__dict__, "_blocks": OrderedDict(), "_nbytes": 0}


@contextmanager
def _opened(shard: Shard) -> Iterator[pq.ParquetFile]:
    """The file of a shard, mapped into memory as long as it is read."""
    try:
        with pq.ParquetFile(check_regular(shard.path), memory_map=True) as file:
            found = tuple(file.metadata.row_group(number).num_rows for number in range(file.num_row_groups))
            if found != shard.row_groups:
                raise DataError(f"{shard.path} was replaced while it was in use: it has row groups of {found} rows, before of {shard.row_groups}")
            yield file
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{shard.path} is missing or damaged: {error}. Delete it and make it again") from error


def _read(file: pq.ParquetFile, shard: Shard, number: int, *, first: int) -> TokenBlock:
    """Row group `number`, whose first row is row `first` of its shard."""
    table = file.read_row_group(number, use_threads=False)
    layout, path = shard.header.layout, str(shard.path)
    columns = {name: _whole(table.column(name)) for name in table.column_names}
    data_name = "latents" if layout.is_continuous else "tokens"
    needed = {"key", "label", "caption", data_name, *(f"extra_{name}" for name in shard.extras)}
    needed |= ({"positions"} if layout.ragged else set()) | ({"extents"} if layout.is_variable else set())
    missing = needed - set(columns)
    if missing:
        raise DataError(f"{path} lacks the columns {sorted(missing)}; it has {table.column_names}")
    rows = {len(column) for column in columns.values()}
    if rows != {shard.row_groups[number]}:
        raise DataError(f"{path} is damaged: row group {number} has columns of {sorted(rows)} rows, its metadata says {shard.row_groups[number]}")
    _check_columns(columns, data_name, shard, first=first)
    data = _Lists.read(columns[data_name], path)
    extents = _extents(_Lists.read(columns["extents"], path), layout, path, first=first) if layout.is_variable else None
    _check_counts(data, layout, extents, columns["key"], path, first=first)
    if layout.is_continuous and not bool(np.isfinite(data.values).all()):
        raise DataError(f"{path}: the latents hold NaN or infinity")
    return TokenBlock(
        nbytes=table.nbytes,
        key=columns["key"],
        label=columns["label"],
        caption=columns["caption"],
        data=data,
        width=layout.segments[0].channels,
        kept=_Lists.read(columns["positions"], path) if layout.ragged else None,
        extents=extents,
        extras={name: _extra(name, extra, _Lists.read(columns[f"extra_{name}"], path), path) for name, extra in shard.extras.items()},
    )


def _check_columns(columns: Mapping[str, pa.Array], data_name: str, shard: Shard, *, first: int) -> None:
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
        raise DataError(f"{path}: row {first + columns['key'].is_null().index(True).as_py()} has no key")
    labels = columns["label"].drop_null()
    if len(labels) and pc.min(labels).as_py() < 0:
        raise DataError(f"{path}: label {pc.min(labels).as_py()} is negative; a sample has a class, or none")
    names = shard.header.class_names
    if len(labels) and names and pc.max(labels).as_py() >= len(names):
        raise DataError(f"{path}: label {pc.max(labels).as_py()} has no name: there are {len(names)} classes")


def _lists_of(is_value: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    return lambda kind: pa.types.is_list(kind) and is_value(kind.value_type)


def _extents(lists: _Lists, layout: TokenLayout, path: str, *, first: int) -> np.ndarray:
    """(N, E) int64."""
    axes = len(layout.extents)
    if bool((lists.counts != axes).any()):
        raise DataError(f"{path}: the extents of every sample must be {axes} numbers")
    extents = lists.values[lists.offsets[0] :][: axes * len(lists.held)].reshape(-1, axes).astype(np.int64)
    wrong = np.flatnonzero((extents < np.where(layout.has_free_axis, 1, layout.extents)).any(axis=1))
    if len(wrong):
        raise DataError(f"{path}, row {first + wrong[0]}: extents {extents[wrong[0]].tolist()} are none of a layout with {layout.extents}")
    return extents


def _check_counts(data: _Lists, layout: TokenLayout, extents: np.ndarray | None, keys: pa.Array, path: str, *, first: int) -> None:
    """Every row holds as many values as its extents require, or fewer where samples may be shorter."""
    full = np.full(len(data.held), layout.length) if extents is None else layout.lengths_at(extents)
    width = layout.segments[0].channels or 1
    counts, rest = np.divmod(data.counts, width)
    least = 0 if layout.ragged or layout.prefixes != "none" else full
    wrong = np.flatnonzero((counts < least) | (counts > full) | (rest > 0) | ~data.held)
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"{path}, row {first + row} ({keys[row]}): {data.counts[row]} values where its layout has {full[row] * width}")


def _extra(name: str, column: ExtraColumn, lists: _Lists, path: str) -> _Extra:
    if bool((lists.counts != math.prod(column.shape)).any()) or not isinstance(getattr(torch, column.dtype, None), torch.dtype):
        raise DataError(f"{path}: the extra {name!r} does not hold values of shape {column.shape} and type {column.dtype}")
    return _Extra(lists, column)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
