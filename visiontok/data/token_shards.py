"""Shards of token sets: plain Parquet files whose schema metadata says what the tokens are and where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import JsonValue

import visiontok
from visiontok.base.config import Config
from visiontok.base.errors import ConfigError, DataError
from visiontok.base.files import replacing
from visiontok.core.identity import TokenizerIdentity
from visiontok.tokens import TokenLayout, Tokens

MANIFEST = "manifest.json"
_INTEGERS = (np.uint8, np.uint16, np.uint32, np.int64)


class TokenSetHeader(Config):
    """What all shards of a token set agree on; each value is one entry of the schema metadata.

    Attributes:
        layout: of the tokens.
        tokenizer: that made them.
        source: what was tokenized, and how it was cut into shards.
        class_names: names of the labels 0, 1, ...; empty where labels have none.
    """

    layout: TokenLayout
    tokenizer: TokenizerIdentity
    source: JsonValue
    class_names: tuple[str, ...] = ()

    def differences(self, other: TokenSetHeader) -> list[str]:
        """One line per value that differs: where it stands, what it is here and what it is in `other`."""
        return _differences("", self.to_dict(), other.to_dict())


class Manifest(Config):
    """The last file of a finished token set.

    Attributes:
        header: of its shards.
        shards: file name -> rows.
        skipped: samples of the source that could not be read.
        visiontok_version: that wrote it.
    """

    header: TokenSetHeader
    shards: dict[str, int]
    skipped: int = 0
    visiontok_version: str = visiontok.__version__


@dataclass(frozen=True)
class Shard:
    """What is known of a shard without reading its rows."""

    path: Path
    header: TokenSetHeader
    rows: int
    notes: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> Shard:
        """Read a shard's metadata.

        Raises:
            DataError: if the file is no Parquet file or was not written by `TokenShardWriter`.
        """
        path = Path(path)
        try:
            metadata = pq.read_metadata(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{path} is not a readable Parquet file: {error}. Delete it and make it again") from error
        entries = {key.decode(): value for key, value in (metadata.metadata or {}).items()}
        try:
            values = {name: json.loads(entries[f"visiontok.{name}"]) for name in TokenSetHeader.model_fields}
            notes = json.loads(entries["visiontok.notes"])
            return cls(path, TokenSetHeader.parse(values, source=str(path)), metadata.num_rows, notes)
        except (KeyError, json.JSONDecodeError, ConfigError) as error:
            raise DataError(f"{path} is a Parquet file, but its metadata describes no visiontok tokens: {error}") from error


class TokenShardWriter:
    """Writes a token set into a folder: `part-00000.parquet`, `part-00001.parquet`, ..., then the manifest. Every file is whole or absent.

    Columns: key (string), label (int64 or null), caption (string or null), tokens (list of the smallest integers that hold the layout's ids)
    and, for ragged layouts, positions (list of storage places; null where a sample's ids are its first ones).

    Args:
        folder: made if it is missing.
        header: what all shards agree on.
    """

    def __init__(self, folder: str | Path, header: TokenSetHeader) -> None:
        self.folder = Path(folder)
        self.header = header
        layout = header.layout
        columns = [
            pa.field("key", pa.string(), nullable=False),
            pa.field("label", pa.int64()),
            pa.field("caption", pa.string()),
            pa.field("tokens", pa.list_(_smallest(int(layout.vocab_sizes.max()) - 1)), nullable=False),
        ]
        if layout.ragged:
            columns.append(pa.field("positions", pa.list_(_smallest(layout.length - 1))))
        metadata = {f"visiontok.{name}": json.dumps(value) for name, value in header.to_dict().items()}
        self._schema = pa.schema(columns, metadata={**metadata, "visiontok.version": visiontok.__version__})

    def path(self, number: int) -> Path:
        """Where shard `number` lies."""
        return self.folder / f"part-{number:05d}.parquet"

    def write(
        self,
        number: int,
        tokens: Tokens,
        *,
        keys: Sequence[str],
        labels: Sequence[int | None] | None = None,
        captions: Sequence[str | None] | None = None,
        notes: Mapping[str, JsonValue] | None = None,
    ) -> Path:
        """Write one shard, in place of one of the same number.

        Args:
            number: of the shard, from 0.
            tokens: B samples.
            keys: B names by which samples are found again.
            labels: B class numbers.
            captions: B texts.
            notes: kept in the shard's metadata, as `Shard.notes`.

        Raises:
            DataError: if the tokens have another layout than the header, or the columns differ in length.
            TokenError: if an id is out of range.
        """
        if tokens.layout != self.header.layout:
            raise DataError(f"the tokens have the layout {tokens.layout}, the header of this set {self.header.layout}")
        missing = [None] * len(tokens)
        columns = {"key": keys, "label": missing if labels is None else labels, "caption": missing if captions is None else captions}
        for name, values in columns.items():
            if len(values) != len(tokens):
                raise DataError(f"{len(tokens)} samples were given with {len(values)} values of {name!r}")
        tokens.validate()
        arrays = [pa.array(values, self._schema.field(name).type) for name, values in columns.items()]
        arrays.append(_lists(tokens.indices, tokens.mask, self._schema.field("tokens").type))
        if self.header.layout.ragged:
            kind = self._schema.field("positions").type
            arrays.append(pa.nulls(len(tokens), kind) if tokens.positions is None else _lists(tokens.positions, tokens.mask, kind))
        metadata = {**self._schema.metadata, b"visiontok.notes": json.dumps(dict(notes or {})).encode()}
        schema = self._schema.with_metadata(metadata)
        with replacing(self.path(number)) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            if len(tokens):  # an empty shard has no row group at all: `datasets` fails on an empty one
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        return self.path(number)

    def finish(self, *, skipped: int = 0) -> Manifest:
        """Write the manifest over the shards that lie in the folder; the set is complete now.

        Raises:
            DataError: if a shard is missing or unlike the header.
        """
        shards = [Shard.read(path) for path in sorted(self.folder.glob("part-*.parquet"), key=lambda path: (len(path.name), path.name))]
        for number, shard in enumerate(shards):
            if shard.path != self.path(number):
                raise DataError(f"{self.path(number)} is missing: the next shard that lies in the folder is {shard.path.name}")
        check_alike(self.header, shards)
        manifest = Manifest(header=self.header, shards={shard.path.name: shard.rows for shard in shards}, skipped=skipped)
        with replacing(self.folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest.to_dict(), indent=1), encoding="utf-8")
        return manifest


def check_alike(header: TokenSetHeader, shards: Sequence[Shard]) -> None:
    """Shards of one set have one header.

    Raises:
        DataError: naming the first shard that has another one and every value that differs.
    """
    for shard in shards:
        different = shard.header.differences(header)
        if different:
            raise DataError(f"{shard.path} belongs to another token set: " + "; ".join(different))


def _differences(place: str, mine: JsonValue, other: JsonValue) -> list[str]:
    if isinstance(mine, dict) and isinstance(other, dict):
        found = []
        for key in sorted({*mine, *other}):
            found += _differences(f"{place}.{key}" if place else key, mine.get(key), other.get(key))
        return found
    return [] if mine == other else [f"{place} is {_short(mine)} there and {_short(other)} here"]


def _short(value: JsonValue) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _smallest(largest: int) -> pa.DataType:
    return pa.from_numpy_dtype(next(kind for kind in _INTEGERS if largest <= np.iinfo(kind).max))


def _lists(rows: torch.Tensor, mask: torch.Tensor, kind: pa.ListType) -> pa.ListArray:
    """A list column of the held values of every row."""
    ends = torch.cumsum(mask.sum(dim=1), dim=0).cpu().numpy()
    return pa.ListArray.from_arrays(np.concatenate([[0], ends]).astype(np.int32), pa.array(rows[mask].cpu().numpy()).cast(kind.value_type), type=kind)
