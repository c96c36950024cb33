"""Damage and wrong values in token sets and token files are errors that name the file."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from visiontok.base.errors import DataError, TokenError
from visiontok.core.identity import TokenizerIdentity
from visiontok.data.token_dataset import TokenDataset
from visiontok.data.token_file import TokenFile
from visiontok.data.token_shards import TokenSetHeader, TokenShardWriter
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens

IDENTITY = TokenizerIdentity(name="toy", weights_sha256="0" * 64)
DISCRETE = TokenLayout(modality="image", segments=(Segment(name="grid", shape=(2, 2), vocab_size=9),), signal_shape=(8, 8))
CONTINUOUS = TokenLayout(modality="image", segments=(Segment(name="latents", shape=(4,), channels=2),), signal_shape=(8, 8))
TOKENS = Tokens(torch.tensor([[0, 8, 3, 1], [2, 2, 2, 2]]), DISCRETE)
LATENTS = Latents(torch.ones(2, 4, 2), CONTINUOUS)


def write_set(folder: Path, tokens: Tokens | Latents = TOKENS) -> Path:
    header = TokenSetHeader(layout=tokens.layout, tokenizer=IDENTITY, source="test", class_names=("a", "b"))
    writer = TokenShardWriter(folder, header)
    writer.write(0, tokens, keys=["x", "y"], labels=[0, 1])
    writer.write(1, tokens, keys=["z", "w"], labels=[1, None])
    writer.finish()
    return folder


@pytest.mark.parametrize("tokens", [TOKENS, LATENTS], ids=["tokens", "latents"])
def test_any_flipped_bit_of_a_shard_is_an_error_that_names_it(tmp_path: Path, tokens: Tokens | Latents) -> None:
    shard = write_set(tmp_path / "set", tokens) / "part-00001.parquet"
    whole, draw = shard.read_bytes(), random.Random(0)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        shard.write_bytes(damaged)
        with pytest.raises(DataError, match=r"part-00001\.parquet"):
            TokenDataset(tmp_path / "set")
    shard.write_bytes(whole)
    assert len(TokenDataset(tmp_path / "set")) == 4


def test_going_on_with_a_set_does_not_bless_a_damaged_shard(tmp_path: Path) -> None:
    folder = write_set(tmp_path)
    header = TokenDataset(folder).header
    shard = folder / "part-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[20] ^= 1
    shard.write_bytes(data)
    writer = TokenShardWriter(folder, header)
    writer.write(1, TOKENS, keys=["z", "w"])
    with pytest.raises(DataError, match=r"part-00000\.parquet"):
        writer.finish()


def test_a_shard_without_a_checksum_in_the_manifest(tmp_path: Path) -> None:
    folder = write_set(tmp_path)
    manifest = json.loads((folder / "_manifest.json").read_text())
    del manifest["sha256"]["part-00000.parquet"]
    (folder / "_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"part-00000\.parquet"):
        TokenDataset(folder)


@pytest.mark.parametrize("keys", [["x", "z"], ["z", "z"]], ids=["of another shard", "of the same shard"])
def test_keys_of_two_samples_are_refused_when_a_set_is_written_and_read(tmp_path: Path, keys: list[str]) -> None:
    folder = write_set(tmp_path / "set")
    shards = ["part-00000.parquet", "part-00001.parquet"] if "x" in keys else ["part-00001.parquet"]
    pattern = f"{keys[0]!r}.*" + ".*".join(map(re.escape, shards))
    writer = TokenShardWriter(folder, TokenDataset(folder).header)
    writer.write(1, TOKENS, keys=keys)
    with pytest.raises(DataError, match=pattern):
        writer.finish()
    with pytest.raises(DataError, match=pattern):
        TokenDataset(sorted(folder.glob("*.parquet")))


INT = pa.list_(pa.uint8())
WRONG_COLUMNS = {
    "float tokens": (TOKENS, "tokens", pa.array([[1.0, 2.5, 3.0, 4.0]] * 2), "tokens"),
    "text tokens": (TOKENS, "tokens", pa.array([["1", "2", "3", "4"]] * 2), "tokens"),
    "plain tokens": (TOKENS, "tokens", pa.array([1, 2]), "tokens"),
    "null keys": (TOKENS, "key", pa.array(["x", None]), "row 1"),
    "number keys": (TOKENS, "key", pa.array([1, 2]), "key"),
    "negative labels": (TOKENS, "label", pa.array([0, -3]), "-3"),
    "labels without a name": (TOKENS, "label", pa.array([0, 2]), "2"),
    "float labels": (TOKENS, "label", pa.array([0.0, 1.5]), "label"),
    "caption numbers": (TOKENS, "caption", pa.array([0, 1]), "caption"),
    "NaN latents": (LATENTS, "latents", pa.array([[1.0] * 8, [float("nan")] * 8], pa.list_(pa.float32())), "NaN"),
    "infinite latents": (LATENTS, "latents", pa.array([[1.0] * 8, [float("inf")] * 8], pa.list_(pa.float32())), "infinity"),
    "integer latents": (LATENTS, "latents", pa.array([[1] * 8] * 2), "latents"),
}


@pytest.mark.parametrize("case", WRONG_COLUMNS)
def test_columns_of_other_types_and_values_are_named(tmp_path: Path, case: str) -> None:
    tokens, name, column, named = WRONG_COLUMNS[case]
    shard = write_set(tmp_path, tokens) / "part-00000.parquet"
    table = pq.read_table(shard)
    pq.write_table(table.set_column(table.column_names.index(name), name, column), shard)
    with pytest.raises(DataError, match=rf"part-00000\.parquet.*{named}"):
        TokenDataset([shard])


@pytest.mark.parametrize("value", [9, 255])
def test_tokens_out_of_the_vocabulary_are_found_when_the_set_is_opened_or_read(tmp_path: Path, value: int) -> None:
    shard = write_set(tmp_path) / "part-00000.parquet"
    table = pq.read_table(shard)
    wrong = pa.array([[1, 2, 3, 4], [1, value, 3, 4]], INT)
    pq.write_table(table.set_column(table.column_names.index("tokens"), "tokens", wrong), shard)
    with pytest.raises(DataError, match=str(value)):
        TokenDataset([shard]).batch([0, 1])


def test_negative_labels_are_not_written(tmp_path: Path) -> None:
    writer = TokenShardWriter(tmp_path, TokenSetHeader(layout=DISCRETE, tokenizer=IDENTITY, source="test"))
    with pytest.raises(DataError, match="-1"):
        writer.write(0, TOKENS, keys=["x", "y"], labels=[0, -1])


@pytest.mark.parametrize(
    ("tokens", "change", "named"),
    [
        (TOKENS, {"labels": np.array([0.5, 1.0])}, "labels"),
        (TOKENS, {"labels": np.array([0, -2])}, "-2"),
        (TOKENS, {"labels": np.array([[0], [1]])}, "labels"),
        (TOKENS, {"labels": np.array(["0", "1"])}, "labels"),
        (TOKENS, {"keys": np.array([1.0, np.nan])}, "keys"),
        (TOKENS, {"keys": np.array("xy")}, "keys"),
        (TOKENS, {"keys": np.array([0x8ACCF612, ord("y")], dtype="<u4").view("<U1")}, "Unicode"),
        (TOKENS, {"keys": np.array(["\ud800", "y"])}, "Unicode"),
        (TOKENS, {"indices": np.array([[0, 1, 2, 3], [0, 1, 2, 9]])}, "9"),
        (TOKENS, {"indices": np.array([[0, 1, 2, 3], [0, 1, 2, -1]])}, "-1"),
        (TOKENS, {"indices": np.array([[0.0, 1, 2, 3], [0, 1, 2, 3]])}, "int64"),
        (LATENTS, {"values": np.full((2, 4, 2), np.nan, dtype=np.float32)}, "NaN"),
        (LATENTS, {"values": np.ones((2, 4, 2), dtype=np.int64)}, "int64"),
        (LATENTS, {"values": np.ones((2, 4, 2), dtype=np.complex64)}, "complex64"),
    ],
)
def test_token_files_with_other_types_and_values(tmp_path: Path, tokens: Tokens | Latents, change: dict[str, np.ndarray], named: str) -> None:
    path = tmp_path / "t.npz"
    TokenFile(tokens, ("x", "y"), IDENTITY, labels=(0, 1)).write(path)
    np.savez(path, **{**np.load(path), **change})
    with pytest.raises(TokenError, match=rf"t\.npz.*{named}"):
        TokenFile.read(path)


def test_any_flipped_bit_of_a_token_file_is_an_error_or_changes_nothing(tmp_path: Path) -> None:
    path, draw, errors = tmp_path / "t.npz", random.Random(0), 0
    TokenFile(TOKENS, ("x", "y"), IDENTITY, labels=(0, 1)).write(path)
    whole, expected = path.read_bytes(), TokenFile.read(path)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            found = TokenFile.read(path)
        except TokenError as error:
            errors += str(path) in str(error)
        else:
            assert torch.equal(found.tokens.data, expected.tokens.data)
            assert (found.keys, found.labels, found.tokenizer, found.tokens.layout) == (
                expected.keys,
                expected.labels,
                expected.tokenizer,
                expected.tokens.layout,
            )
    assert errors > 100
