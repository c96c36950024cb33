"""Token sets for training and measuring: random access to the samples of Parquet shards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from visiontok.base.errors import DataError, TokenError
from visiontok.data.token_shards import MANIFEST, Manifest, Shard, TokenSetHeader, check_alike
from visiontok.tokens import TokenLayout, Tokens


@dataclass(frozen=True)
class TokenBatch:
    """Some samples of a token set.

    Attributes:
        tokens: B samples.
        labels: (B,) int64; None for sets in which a sample has no label.
        captions: B texts, None where there is none.
        keys: B names.
    """

    tokens: Tokens
    labels: Tensor | None
    captions: list[str | None]
    keys: list[str]


class TokenDataset:
    """Samples of a finished token set, or of some of its shards, held in memory in their smallest integers.

    Args:
        paths: a folder with a manifest, or the shards themselves.

    Attributes:
        header: what all shards agree on.
        labels: (N,) int64; None if any sample has no label.

    Raises:
        DataError: if the set is not finished, a shard is missing, damaged or of another set, or rows do not fit the layout.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path]) -> None:
        self.shards = _shards_of(Path(paths)) if isinstance(paths, str | Path) else [Shard.read(path) for path in paths]
        if not self.shards:
            raise DataError("no token shards were given")
        self.header: TokenSetHeader = self.shards[0].header
        check_alike(self.header, self.shards)
        self._parts = [_Part.read(shard) for shard in self.shards]
        self._ends = np.cumsum([shard.rows for shard in self.shards])
        labels = pa.chunked_array([part.label for part in self._parts])
        self.labels = None if labels.null_count else torch.from_numpy(labels.to_numpy().astype(np.int64))

    @property
    def layout(self) -> TokenLayout:
        return self.header.layout

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, rows: slice) -> TokenBatch:
        """The samples of a slice."""
        if not isinstance(rows, slice):
            raise TypeError(f"index a token set with a slice, or use batch(rows), not {type(rows).__name__}")
        return self.batch(range(*rows.indices(len(self))))

    def batch(self, rows: Iterable[int]) -> TokenBatch:
        """The samples of these rows, in this order.

        Raises:
            IndexError: for a row outside [0, len).
            DataError: naming the sample whose ids do not fit the layout.
        """
        numbers = [int(row) for row in rows]
        wrong = [row for row in numbers if not 0 <= row < len(self)]
        if wrong:
            raise IndexError(f"row {wrong[0]} is outside [0, {len(self)})")
        shards = np.searchsorted(self._ends, numbers, side="right")
        places = [
            (self._parts[shard], row - int(self._ends[shard] - len(self._parts[shard].key))) for shard, row in zip(shards, numbers, strict=True)
        ]
        keys = [part.key[row].as_py() for part, row in places]
        samples = [part.tokens.row(row) for part, row in places]
        positions = None
        if any(part.positions is not None and part.positions.held[row] for part, row in places):
            positions = [
                part.positions.row(row) if part.positions is not None and part.positions.held[row] else torch.arange(len(sample))
                for (part, row), sample in zip(places, samples, strict=True)
            ]
        try:
            tokens = Tokens.from_samples(samples, self.layout, positions=positions)
        except TokenError as error:
            raise DataError(f"the samples {keys[:8]}{' ...' if len(keys) > 8 else ''} do not fit their layout: {error}") from error
        return TokenBatch(
            tokens=tokens,
            labels=None if self.labels is None else self.labels[numbers],
            captions=[part.caption[row].as_py() for part, row in places],
            keys=keys,
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
        return cls(values.to_numpy(), column.offsets.to_numpy().astype(np.int64), column.is_valid().to_numpy(zero_copy_only=False))

    def row(self, row: int) -> Tensor:
        return torch.from_numpy(self.values[self.offsets[row] : self.offsets[row + 1]].astype(np.int64))


@dataclass(frozen=True)
class _Part:
    """The columns of one shard."""

    key: pa.Array
    label: pa.Array
    caption: pa.Array
    tokens: _Lists
    positions: _Lists | None

    @classmethod
    def read(cls, shard: Shard) -> _Part:
        try:
            table = pq.read_table(shard.path, use_threads=False, memory_map=False).combine_chunks()
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{shard.path} is damaged: {error}. Delete it and make it again") from error
        columns = {name: _whole(table.column(name)) for name in table.column_names}
        missing = {"key", "label", "caption", "tokens"} - set(columns)
        if missing:
            raise DataError(f"{shard.path} lacks the columns {sorted(missing)}; it has {table.column_names}")
        tokens = _Lists.read(columns["tokens"], shard.path)
        layout, counts = shard.header.layout, np.diff(tokens.offsets)
        least = 0 if layout.ragged or layout.prefixes != "none" else layout.length
        wrong = np.flatnonzero((counts < least) | (counts > layout.length) | ~tokens.held)
        if len(wrong):
            row = int(wrong[0])
            raise DataError(f"{shard.path}, row {row} ({columns['key'][row]}): {counts[row]} ids where the layout has {layout.length}")
        positions = _Lists.read(columns["positions"], shard.path) if "positions" in columns else None
        return cls(columns["key"], columns["label"], columns["caption"], tokens, positions)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _shards_of(folder: Path) -> list[Shard]:
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
        if Path(name).name != name:
            raise DataError(f"{folder / MANIFEST} names the shard {name!r}, which is not a file of its folder")
        if not (folder / name).is_file():
            raise DataError(f"{folder / name} is missing, but {MANIFEST} names it")
        shard = Shard.read(folder / name)
        if shard.rows != rows:
            raise DataError(f"{shard.path} has {shard.rows} rows, {MANIFEST} says {rows}")
        shards.append(shard)
    check_alike(manifest.header, shards)
    return shards
