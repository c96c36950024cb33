"""Parquet files with encoded images, clips or sound in a column, as the `datasets` library writes them."""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from visiontok.base.config import Config
from visiontok.base.errors import DataError, damage_as
from visiontok.base.modality import Modality
from visiontok.base.names import unknown
from visiontok.base.printable import printable
from visiontok.data.media import MEDIA, FileModality, reader_of, sampled
from visiontok.data.shard_names import expand_shards, shard_labels
from visiontok.data.source import Sample, Source, checked_label, fingerprint
from visiontok.signals.video_frames import FrameSampling

_CACHED_BYTES = 2**28


class ParquetConfig(Config):
    """Parquet files of one schema.

    A whole row group is read at once and the last ones are kept, so that small row groups suit shuffled training (`datasets` writes 100 rows).

    Attributes:
        path: a file, a folder of files, a shell pattern, or a name with a range such as `train-{000..015}.parquet`.
        image, video, audio: column with the encoded images, clips or sounds: binary, or a struct with a binary field "bytes". Where none is named,
            the column of one of these names, if there is one of them.
        label: column of whole numbers (negative: no label); None takes "label" where there is such a column.
        caption: column of strings; None takes "caption" or "text" where there is one.
        sampling: of clips, which of their frames are taken.
    """

    name: Literal["parquet"] = "parquet"
    path: str
    image: str | None = None
    video: str | None = None
    audio: str | None = None
    label: str | None = None
    caption: str | None = None
    sampling: FrameSampling = FrameSampling()


class ParquetSource(Source):
    """Every row of every file. Keys are `file/row`, with the file's folder where files share a name.

    Class names are those of a `datasets` ClassLabel, where the schema has one.
    """

    def __init__(self, config: ParquetConfig) -> None:
        self._paths = expand_shards(config.path, ".parquet")
        self._file_labels = shard_labels(self._paths)
        self._metadata = [_metadata(path) for path in self._paths]
        schema = self._metadata[0].schema.to_arrow_schema()
        for path, metadata in zip(self._paths, self._metadata, strict=True):
            if metadata.schema.to_arrow_schema().types != schema.types or metadata.schema.to_arrow_schema().names != schema.names:
                raise DataError(f"{path} has other columns than {self._paths[0]}: all files of one set must share a schema")
        self.modality: Modality
        self.modality, self._signal = _signal_column(schema, config)
        self._read, self._sampling = reader_of(MEDIA[self.modality], config.sampling), config.sampling
        self._label = _column(schema, config.label) if config.label else _first(schema, "label")
        self._caption = _column(schema, config.caption) if config.caption else _first(schema, "caption", "text")
        _check_types(schema, self._signal, self._label, self._caption)
        if self._label:
            self.class_names = _class_names(schema, self._label)
        self._groups = [(file, group) for file, metadata in enumerate(self._metadata) for group in range(metadata.num_row_groups)]
        self._starts = [0, *accumulate(self._metadata[file].row_group(group).num_rows for file, group in self._groups)]
        self._file_starts = [0, *accumulate(metadata.num_rows for metadata in self._metadata)]
        if not len(self):
            raise DataError(f"{config.path!r} holds no row")
        self._tables: dict[int, pa.Table] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to one process."""
        return {**self.__dict__, "_tables": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    @cached_property
    def identity(self) -> str:
        listing = (f"{path.name}\t{path.stat().st_size}\t{metadata.num_rows}" for path, metadata in zip(self._paths, self._metadata, strict=True))
        return sampled(fingerprint("parquet", len(self), (*listing, f"{self._signal}\t{self._label}\t{self._caption}")), self._sampling)

    def __len__(self) -> int:
        return self._starts[-1]

    def key(self, index: int) -> str:
        file = bisect_right(self._file_starts, index) - 1
        return f"{self._file_labels[file]}/{index - self._file_starts[file]}"

    def read(self, index: int) -> Sample:
        group = bisect_right(self._starts, index) - 1
        name = f"{self._paths[self._groups[group][0]]} row {self.key(index).rpartition('/')[2]}"
        table, row = self._table(group), index - self._starts[group]
        with damage_as(DataError, f"{name} cannot be decoded"):
            signal, label, caption = (table.column(column)[row].as_py() if column else None for column in (self._signal, self._label, self._caption))
        data = signal.get("bytes") if isinstance(signal, dict) else signal
        if data is None:
            raise DataError(f"{name} holds no bytes in column {self._signal!r}; files that lie outside of it are not read")
        return Sample(self.key(index), self._read(data, name=name), label=checked_label(label, name), caption=caption)

    def _table(self, group: int) -> pa.Table:
        with self._lock:
            if group in self._tables:
                self._tables[group] = self._tables.pop(group)  # the latest used is the last
                return self._tables[group]
            file, number = self._groups[group]
            columns = [column for column in (self._signal, self._label, self._caption) if column]
            with damage_as(DataError, f"row group {number} of {self._paths[file]} cannot be read"):
                table = pq.ParquetFile(self._paths[file], metadata=self._metadata[file]).read_row_group(number, columns=columns, use_threads=False)
            while self._tables and sum(held.nbytes for held in self._tables.values()) + table.nbytes > _CACHED_BYTES:
                del self._tables[next(iter(self._tables))]
            self._tables[group] = table
            return table


def _metadata(path: Path) -> pq.FileMetaData:
    with damage_as(DataError, f"{path} is not a readable Parquet file"):
        metadata = pq.read_metadata(path)
        metadata.schema.to_arrow_schema()
        rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows:
        raise DataError(f"{path} is damaged: it declares {metadata.num_rows} rows, its row groups {sum(rows)}")
    return metadata


def _signal_column(schema: pa.Schema, config: ParquetConfig) -> tuple[FileModality, str]:
    """The column of the signals, and what it holds."""
    named: dict[FileModality, str | None] = {"image": config.image, "video": config.video, "audio": config.audio}
    found = {modality: column for modality, column in named.items() if column is not None}
    found = found or {modality: modality for modality in named if modality in schema.names} or {"image": "image"}
    if len(found) > 1:
        columns = " and ".join(f"{column!r} ({modality})" for modality, column in found.items())
        raise DataError(f"the columns {columns} are {'there' if found.keys() == set(found.values()) else 'named'}: name the one that is meant")
    ((modality, column),) = found.items()
    return modality, _column(schema, column)


def _first(schema: pa.Schema, *names: str) -> str | None:
    found = next((name for name in names if name in schema.names), None)
    return None if found is None else _one(schema, found)


def _column(schema: pa.Schema, name: str) -> str:
    if name not in schema.names:
        raise DataError(str(unknown("column", name, schema.names)))
    return _one(schema, name)


def _one(schema: pa.Schema, name: str) -> str:
    if schema.names.count(name) > 1:
        raise DataError(f"there are {schema.names.count(name)} columns called {name!r}; nobody knows which one is meant")
    return name


def _check_types(schema: pa.Schema, signal: str, label: str | None, caption: str | None) -> None:
    kind = schema.field(signal).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise DataError(f"column {signal!r} has type {schema.field(signal).type}; expected binary, or a struct with a binary field 'bytes'")
    if label and not pa.types.is_integer(schema.field(label).type):
        raise DataError(f"column {label!r} has type {schema.field(label).type}; expected whole numbers")
    if caption and not (pa.types.is_string(schema.field(caption).type) or pa.types.is_large_string(schema.field(caption).type)):
        raise DataError(f"column {caption!r} has type {schema.field(caption).type}; expected strings")


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """The names that `datasets` keeps in the schema's metadata."""
    try:
        names = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return tuple(printable(str(name)) for name in names) if isinstance(names, list) else None
