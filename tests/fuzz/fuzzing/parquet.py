"""Mutators of Parquet files: of their columns and types, their metadata, and how they are written."""

from __future__ import annotations

import io
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from fuzzing.raw import INTEGERS, TEXTS
from fuzzing.text import mutate_json

_TYPES = (pa.string(), pa.int8(), pa.uint64(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(), pa.binary(), pa.list_(pa.int64()), pa.null())


def mutate_parquet(random: Random, data: bytes) -> bytes:
    """The same table with one thing changed, written anew."""
    table = pq.read_table(io.BytesIO(data), use_threads=False)
    metadata = dict(table.schema.metadata or {})
    action = random.randrange(8)
    position = random.randrange(table.num_columns)
    name = table.column_names[position]
    if action <= 1 and metadata:
        key = random.choice(list(metadata))
        try:
            metadata[key] = mutate_json(random, metadata[key])
        except ValueError:
            metadata[key] = random.choice(TEXTS).encode("utf-8", errors="replace")
        table = table.replace_schema_metadata(metadata)
    elif action == 2 and metadata:
        del metadata[random.choice(list(metadata))]
        table = table.replace_schema_metadata(metadata)
    elif action == 3:
        table = table.drop_columns([name])
    elif action == 4:
        table = table.append_column(random.choice((name, "label", "caption", "text", "x")), table.column(position))
    elif action == 5:
        table = _with_column(table, position, _of_other_type(random, table.column(position)))
    else:
        table = _with_column(table, position, _with_other_value(random, table.column(position)))
    if random.random() < 0.3:
        table = pa.concat_tables([table, table.slice(0, random.randrange(table.num_rows + 1))])
    buffer = io.BytesIO()
    compression = random.choice(("snappy", "none", "gzip"))
    groups = random.choice((1, 2, 1000))
    pq.write_table(
        table, buffer, row_group_size=groups, compression=compression, store_schema=random.random() < 0.9, use_dictionary=random.random() < 0.5
    )
    return buffer.getvalue()


def _with_column(table: pa.Table, position: int, column: pa.Array) -> pa.Table:
    metadata = table.schema.metadata
    return table.set_column(position, pa.field(table.column_names[position], column.type), column).replace_schema_metadata(metadata)


def _of_other_type(random: Random, column: pa.ChunkedArray) -> pa.Array:
    kind = random.choice(_TYPES)
    if pa.types.is_list(column.type) and random.random() < 0.7:
        kind = pa.list_(random.choice(_TYPES))
    try:
        return column.cast(kind).combine_chunks()
    except pa.ArrowException:
        return pa.nulls(len(column), kind)


def _with_other_value(random: Random, column: pa.ChunkedArray) -> pa.Array:
    values = column.to_pylist()
    position = random.randrange(len(values))
    value = values[position]
    if isinstance(value, list):
        value = list(value)
        change = random.randrange(4)
        if change == 0:
            value.append(value[0] if value else 0)
        elif change == 1:
            value = value[:-1]
        elif value:
            value[random.randrange(len(value))] = random.choice((None, *INTEGERS)) if change == 2 else random.choice((0, 1, 2, 200))
        values[position] = value
    else:
        values[position] = random.choice((None, random.choice(TEXTS), random.choice(INTEGERS), b"", values[0], True))
    try:
        return pa.array(values, column.type)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        values[position] = None
        return pa.array(values, column.type)
