"""Shards of token sets: plain Parquet files whose schema metadata says what the tokens are and where they come from."""

from __future__ import annotations

import json
import math
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
from visiontok.base.config import Config, Sha256
from visiontok.base.errors import ConfigError, DataError
from visiontok.base.files import check_regular, file_sha256, replacing
from visiontok.base.json_text import parse_json
from visiontok.core.identity import TokenizerIdentity
from visiontok.data.token_keys import check_keys
from visiontok.tokens import Latents, TokenLayout, Tokens

MANIFEST = "_manifest.json"
"""Readers of Parquet folders ignore names that begin with an underscore or a dot: the shards must be all that they see."""

CARD = ".huggingface.yaml"
"""Tells the package `datasets` which files hold the rows, whatever else is put beside them; pandas would take a README.md for a shard."""

CARD_TEXT = "configs:\n- config_name: default\n  data_files: part-*.parquet\n"

_INTEGERS = (np.uint8, np.uint16, np.uint32, np.int64)
_STORED_AS = {"bfloat16": "float32", "float16": "float32"}  # Parquet readers have neither
_MOST_VALUES = 2**31 - 1  # of one column of a shard: Arrow's lists count with 32 bits

BLOCK_BYTES = 2**19
"""Memory of the rows of a row group, which is what readers decode at once."""


class TokenSetHeader(Config):
    """What all shards of a token set agree on; each value is one entry of the schema metadata.

    Attributes:
        layout: of the tokens or latents; of a kind with free axes, at any extent.
        tokenizer: that made them.
        source: what was tokenized, and how it was cut into shards.
        class_names: names of the labels 0, 1, ...; empty where labels have none.
    """

    layout: TokenLayout
    tokenizer: TokenizerIdentity
    source: JsonValue
    class_names: tuple[str, ...] = ()

    def differences(self, other: TokenSetHeader) -> list[str]:
        """One line per value that differs: its path, what it is here and what it is in `other`. Extents of one kind of layout may differ."""
        mine, others = self.to_dict(), other.to_dict()
        if self.layout.is_same_kind(other.layout):
            del mine["layout"], others["layout"]
        return _differences("", mine, others)


class ExtraColumn(Config):
    """What a shard knows of one extra of its samples.

    Attributes:
        dtype: as PyTorch names it, without its module.
        shape: of one sample; the column holds its values row-major.
    """

    dtype: str
    shape: tuple[int, ...]


class Manifest(Config):
    """The last file of a finished token set.

    Attributes:
        header: of its shards.
        shards: file name -> rows.
        sha256: file name -> SHA-256 of the file.
        skipped: samples of the source that could not be read.
        visiontok_version: that wrote it.
    """

    header: TokenSetHeader
    shards: dict[str, int]
    sha256: dict[str, Sha256]
    skipped: int = 0
    visiontok_version: str = visiontok.__version__


@dataclass(frozen=True)
class Shard:
    """What is known of a shard without reading its rows.

    Attributes:
        path: of the file.
        header: what it agrees on with the other shards of its set.
        row_groups: rows of every row group.
        extras: by name.
        notes: of its writer.
    """

    path: Path
    header: TokenSetHeader
    row_groups: tuple[int, ...]
    extras: Mapping[str, ExtraColumn]
    notes: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """Of all row groups."""
        return sum(self.row_groups)

    @classmethod
    def read(cls, path: str | Path) -> Shard:
        """Read a shard's metadata.

        Raises:
            DataError: if the file is no Parquet file or was not written by `TokenShardWriter`.
        """
        path = Path(path)
        try:
            metadata = pq.read_metadata(check_regular(path))
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{path} is not a readable Parquet file: {error}. Delete it and make it again") from error
        entries = {key.decode(): value for key, value in (metadata.metadata or {}).items()}
        try:
            values = {name: parse_json(entries[f"visiontok.{name}"], source=str(path)) for name in TokenSetHeader.model_fields}
            notes = parse_json(entries["visiontok.notes"], source=str(path))
            extras = {name: ExtraColumn.parse(value) for name, value in parse_json(entries["visiontok.extras"], source=str(path)).items()}
            row_groups = tuple(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
            return cls(path, TokenSetHeader.parse(values, source=str(path)), row_groups, extras, notes)
        except (KeyError, AttributeError, ConfigError) as error:
            raise DataError(f"{path} is a Parquet file, but its metadata describes no visiontok tokens: {error}") from error


class TokenShardWriter:
    """Writes a token set into a folder: `part-00000.parquet`, `part-00001.parquet`, ..., then the manifest. Every file is complete or absent.

    The rows of a file are written in groups of about `BLOCK_BYTES`, so that a reader needs no more than that at once.

    Columns: key (string), label (int64 or null), caption (string or null), and tokens (list of the smallest integers that hold the layout's
    indices) or latents (list of float32, row-major); for ragged layouts, positions (list of storage positions; null where a sample's tokens are
    its first ones); for layouts with free axes, extents (list of integers); for each of the tokens' extras, extra_NAME (list of its values).

    Args:
        folder: made if it is missing.
        header: what all shards agree on.
    """

    def __init__(self, folder: str | Path, header: TokenSetHeader) -> None:
        self.folder = Path(folder)
        self.header = header
        self._metadata = {f"visiontok.{name}": json.dumps(value) for name, value in header.to_dict().items()}
        self._metadata["visiontok.version"] = visiontok.__version__
        self._written: set[str] = set()

    def path(self, number: int) -> Path:
        """The path of shard `number`."""
        return self.folder / f"part-{number:05d}.parquet"

    def write(
        self,
        number: int,
        tokens: Tokens | Latents,
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
            DataError: if the tokens have another kind of layout than the header, the columns differ in length, one holds too many values, or a label
                is negative.
            TokenError: if an index is out of range.
        """
        if not tokens.layout.is_same_kind(self.header.layout):
            raise DataError(f"the tokens have the layout {tokens.layout}, the header of this set {self.header.layout}")
        missing = [None] * len(tokens)
        given = {"key": keys, "label": missing if labels is None else labels, "caption": missing if captions is None else captions}
        for name, values in given.items():
            if len(values) != len(tokens):
                raise DataError(f"{len(tokens)} samples were given with {len(values)} values of {name!r}")
        wrong = [label for label in given["label"] if isinstance(label, int) and label < 0]
        if wrong:
            raise DataError(f"label {wrong[0]} is negative; a sample has a class, or None")
        tokens.validate()
        kinds = {"key": pa.string(), "label": pa.int64(), "caption": pa.string()}
        columns = {name: pa.array(values, kinds[name]) for name, values in given.items()}
        columns |= _token_columns(tokens)
        extras = {name: ExtraColumn(dtype=_dtype_name(value), shape=tuple(value.shape[1:])) for name, value in tokens.extras.items()}
        columns |= {f"extra_{name}": _extra(name, value, extras[name]) for name, value in tokens.extras.items()}
        about = {"visiontok.extras": {name: extra.to_dict() for name, extra in extras.items()}, "visiontok.notes": dict(notes or {})}
        fields = [pa.field(name, column.type, nullable=name not in ("key", "tokens", "latents")) for name, column in columns.items()]
        schema = pa.schema(fields, metadata={**self._metadata, **{name: json.dumps(value) for name, value in about.items()}})
        with replacing(self.path(number)) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            if len(tokens):  # an empty shard has no row group at all: `datasets` fails on an empty one
                table = pa.Table.from_arrays(list(columns.values()), schema=schema)
                writer.write_table(table, row_group_size=max(1, BLOCK_BYTES * len(table) // table.nbytes))
        self._written.add(self.path(number).name)
        return self.path(number)

    def finish(self, *, skipped: int = 0) -> Manifest:
        """Write the manifest of the shards in the folder, which completes the set.

        Raises:
            DataError: if a shard is missing or differs from the header, one of an earlier run is not what the manifest of that run says, or two
                samples have one key.
        """
        shards = [Shard.read(path) for path in sorted(self.folder.glob("part-*.parquet"), key=lambda path: (len(path.name), path.name))]
        for number, shard in enumerate(shards):
            if shard.path != self.path(number):
                raise DataError(f"{self.path(number)} is missing: the next shard in the folder is {shard.path.name}")
        check_alike(self.header, shards)
        sums = {shard.path.name: file_sha256(shard.path) for shard in shards}
        before = Manifest.load(self.folder / MANIFEST).sha256 if (self.folder / MANIFEST).is_file() else {}
        for name in sums.keys() - self._written:
            check_shard_sha256(self.folder / name, sums[name], before.get(name, sums[name]))
        check_keys([shard.path for shard in shards])
        manifest = Manifest(header=self.header, shards={shard.path.name: shard.rows for shard in shards}, sha256=sums, skipped=skipped)
        with replacing(self.folder / CARD) as temporary:
            temporary.write_text(CARD_TEXT, encoding="utf-8")
        with replacing(self.folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest.to_dict(), indent=1), encoding="utf-8")
        return manifest


def check_shard_sha256(path: Path, found: str, expected: str | None) -> None:
    """Compare a shard with the manifest of its set.

    Raises:
        DataError: naming the shard and both sums.
    """
    if found != expected:
        raise DataError(
            f"{path} is damaged, or was replaced: its SHA-256 is {found}, but {MANIFEST} says {expected}. "
            "Delete it, and run the command that makes the set again"
        )


def check_alike(header: TokenSetHeader, shards: Sequence[Shard]) -> None:
    """Shards of one set have one header, but for the extents of its layout, and the same extras.

    Raises:
        DataError: naming the first shard that has another one and every value that differs.
    """
    extras: dict[str, tuple[str, int]] | None = None
    for shard in shards:
        different = shard.header.differences(header)
        found = {name: (extra.dtype, len(extra.shape)) for name, extra in shard.extras.items()}
        if extras is not None and shard.rows and found != extras:
            different.append(f"the extras are {sorted(found)} there and {sorted(extras)} here, or of other types")
        if different:
            raise DataError(f"{shard.path} belongs to another token set: " + "; ".join(different))
        extras = found if shard.rows else extras


def _token_columns(tokens: Tokens | Latents) -> dict[str, pa.Array]:
    layout, lengths = tokens.layout, tokens.sample_lengths.cpu().numpy()
    if isinstance(tokens, Latents):
        columns = {"latents": _lists(tokens.values[tokens.mask].float(), lengths * tokens.values.shape[2], pa.float32())}
    else:
        columns = {"tokens": _lists(tokens.indices[tokens.mask], lengths, _smallest(int(layout.vocab_sizes.max()) - 1))}
    if layout.ragged:
        kind = pa.uint32() if layout.is_variable else _smallest(layout.length - 1)
        columns["positions"] = (
            pa.nulls(len(tokens), pa.list_(kind)) if tokens.positions is None else _lists(tokens.positions[tokens.mask], lengths, kind)
        )
    if layout.is_variable:
        columns["extents"] = _lists(tokens.sample_extents, np.full(len(tokens), len(layout.extents)), pa.uint32())
    return columns


def _extra(name: str, value: torch.Tensor, column: ExtraColumn) -> pa.ListArray:
    try:
        stored = value.to(getattr(torch, _STORED_AS.get(column.dtype, column.dtype)))
        return _lists(stored, np.full(len(value), math.prod(column.shape)), pa.from_numpy_dtype(stored.cpu().numpy().dtype))
    except (TypeError, pa.ArrowException) as error:
        raise DataError(f"the extra {name!r} has the type {column.dtype}, which cannot be stored: {error}") from error


def _dtype_name(value: torch.Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _lists(values: torch.Tensor, counts: np.ndarray, kind: pa.DataType) -> pa.ListArray:
    """A list column: the next `counts` values of a flattened tensor in every row."""
    ends = np.cumsum(counts)
    if len(ends) and ends[-1] > _MOST_VALUES:
        raise DataError(f"a shard holds {ends[-1]} values in one column, more than {_MOST_VALUES}: choose a smaller shard size")
    flat = pa.array(values.detach().flatten().cpu().numpy()).cast(kind)
    return pa.ListArray.from_arrays(np.concatenate([[0], ends]).astype(np.int32), flat)


def _differences(path: str, mine: JsonValue, other: JsonValue) -> list[str]:
    if isinstance(mine, dict) and isinstance(other, dict):
        found = []
        for key in sorted({*mine, *other}):
            found += _differences(f"{path}.{key}" if path else key, mine.get(key), other.get(key))
        return found
    return [] if mine == other else [f"{path} is {_short(mine)} there and {_short(other)} here"]


def _short(value: JsonValue) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _smallest(largest: int) -> pa.DataType:
    return pa.from_numpy_dtype(next(kind for kind in _INTEGERS if largest <= np.iinfo(kind).max))
