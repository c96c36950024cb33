"""Token sets and token files hold what tokens and latents hold: extents, positions, extras."""

from __future__ import annotations

import math

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from token_batches import FIXED, GRID, MEL, PATCHES, RVQ, SNAC, assert_same, batches

from visiontok.base.errors import DataError
from visiontok.core.identity import TokenizerIdentity
from visiontok.data.token_dataset import TokenDataset
from visiontok.data.token_file import TokenFile
from visiontok.data.token_shards import Shard, TokenSetHeader, TokenShardWriter
from visiontok.tokens import Latents, Tokens

IDENTITY = TokenizerIdentity(name="some", weights_sha256="0" * 64)


def header(layout, **changes):
    return TokenSetHeader(**{"layout": layout, "tokenizer": IDENTITY, "source": "test", **changes})


def zeros(layout, samples=1, **extras):
    if layout.is_continuous:
        return Latents(torch.zeros(samples, layout.length, layout.segments[0].channels), layout, extras=extras)
    return Tokens(torch.zeros(samples, layout.length, dtype=torch.int64), layout, extras=extras)


@settings(max_examples=40)
@given(batches(), st.data())
def test_a_set_gives_everything_back_in_any_order(tmp_path_factory, batch, data):
    folder = tmp_path_factory.mktemp("set")
    cut = data.draw(st.integers(0, len(batch)))
    writer = TokenShardWriter(folder, header(batch.layout))
    for number, part in enumerate([batch[:cut], batch[cut:]]):
        first = number * cut
        writer.write(number, part, keys=[str(first + row) for row in range(len(part))])
    writer.finish()
    dataset = TokenDataset(folder)
    assert dataset.layout.extents == batch.layout.extents
    assert dataset.tokenizer == IDENTITY
    rows = data.draw(st.lists(st.integers(0, len(batch) - 1), min_size=1, max_size=6))
    found = dataset.batch(rows)
    assert found.keys == [str(row) for row in rows]
    assert_same(found.tokens, type(batch).cat([batch[row : row + 1] for row in rows]))


@settings(max_examples=40)
@given(batches())
def test_a_token_file_gives_everything_back(tmp_path_factory, batch):
    path = tmp_path_factory.mktemp("file") / "t.npz"
    keys = tuple(f"k{row}" for row in range(len(batch)))
    TokenFile(batch, keys, IDENTITY).write(path)
    found = TokenFile.read(path)
    assert_same(found.tokens, batch)
    assert (found.keys, found.tokenizer, found.labels) == (keys, IDENTITY, None)
    assert_same(type(batch).load(path), batch)  # a token file is also a file of tokens


def test_shards_of_one_kind_join_whatever_their_extents(tmp_path):
    layouts = [SNAC.layout.at([frames, 2 * frames, 4 * frames]) for frames in (2, 5, 1)]
    paths = [TokenShardWriter(tmp_path, header(layout)).write(number, zeros(layout), keys=[str(number)]) for number, layout in enumerate(layouts)]
    dataset = TokenDataset(paths)
    assert dataset.layout == layouts[1]
    assert dataset.batch([0, 2]).tokens.layout == layouts[0]
    assert dataset[0:3].tokens.sample_extents.tolist() == [list(layout.extents) for layout in layouts]
    TokenShardWriter(tmp_path, header(layouts[0])).finish()
    assert len(TokenDataset(tmp_path)) == 3
    writer = TokenShardWriter(tmp_path, header(layouts[0]))
    writer.write(0, zeros(layouts[1]), keys=["a"])
    with pytest.raises(DataError, match=r"part-00000\.parquet"):
        TokenDataset(tmp_path)
    writer.finish()
    assert len(TokenDataset(tmp_path)) == 3


@pytest.mark.parametrize("other", [SNAC.layout.replace(rate=16000), SNAC.layout.with_levels(2), SNAC.layout.replace(order="by-scale")])
def test_shards_of_other_kinds_do_not(tmp_path, other):
    first = TokenShardWriter(tmp_path, header(SNAC.layout)).write(0, zeros(SNAC.layout), keys=["a"])
    second = TokenShardWriter(tmp_path, header(other)).write(1, zeros(other), keys=["a"])
    with pytest.raises(DataError, match="layout"):
        TokenDataset([first, second])
    with pytest.raises(DataError, match="layout"):
        TokenShardWriter(tmp_path, header(SNAC.layout)).write(1, zeros(other), keys=["a"])


def test_shards_of_other_extras_do_not(tmp_path):
    writer = TokenShardWriter(tmp_path, header(FIXED.layout))
    paths = [
        writer.write(0, zeros(FIXED.layout, scale=torch.ones(1, 2)), keys=["a"]),
        writer.write(1, zeros(FIXED.layout, scale=torch.ones(1, 5)), keys=["b"]),
        writer.write(2, zeros(FIXED.layout, samples=0), keys=[]),
        writer.write(3, zeros(FIXED.layout), keys=["c"]),
        writer.write(4, zeros(FIXED.layout, scale=torch.ones(1, 2, dtype=torch.float64)), keys=["d"]),
    ]
    assert TokenDataset(paths[:3])[0:2].tokens.extras["scale"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
    for wrong in paths[3:]:
        with pytest.raises(DataError, match="scale"):
            TokenDataset([paths[0], wrong])


def test_extras_of_every_type_come_back(tmp_path):
    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]
    extras = {f"x{number}": torch.tensor([[0, 1, 1], [1, 0, 1]]).to(kind) for number, kind in enumerate(kinds)}
    path = TokenShardWriter(tmp_path, header(FIXED.layout)).write(0, zeros(FIXED.layout, samples=2, **extras), keys=["a", "b"])
    found = TokenDataset([path])[0:2].tokens.extras
    assert {name: value.dtype for name, value in found.items()} == {f"x{number}": kind for number, kind in enumerate(kinds)}
    assert all(torch.equal(found[name], value) for name, value in extras.items())
    with pytest.raises(DataError, match="phase"):
        TokenShardWriter(tmp_path, header(FIXED.layout)).write(1, zeros(FIXED.layout, phase=torch.ones(1, 2, dtype=torch.complex64)), keys=["a"])


def test_the_columns_are_plain_parquet(tmp_path):
    layouts = [MEL.layout.at([frames]) for frames in (2, 3)]
    latents = [Latents(torch.arange(4.0 * layout.length).reshape(1, -1, 4), layout, extras={"codebook": torch.ones(1, 2, 3)}) for layout in layouts]
    path = TokenShardWriter(tmp_path, header(MEL.layout)).write(0, Latents.cat(latents), keys=["a", "b"])
    frame = pandas.read_parquet(path)
    assert list(frame.columns) == ["key", "label", "caption", "latents", "extents", "extra_codebook"]
    assert frame.latents[1].tolist() == list(range(12))
    assert [row.tolist() for row in frame.extents] == [[2], [3]]
    assert frame.extra_codebook[0].tolist() == [1] * 6
    assert Shard.read(path).extras["codebook"].shape == (2, 3)


def rewrite(path, **columns):
    table = pq.read_table(path)
    for name, column in columns.items():
        index = table.column_names.index(name)
        table = table.remove_column(index) if column is None else table.set_column(index, name, column)
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"extents": None}, "extents"),
        ({"extents": pa.array([[2, 4], [2, 4, 8]])}, "extents"),
        ({"extents": pa.array([[2, 4, 8], [2, 0, 8]])}, r"row 1.*\[2, 0, 8\]"),
        ({"extents": pa.array([[2, 4, 8], [3, 6, 12]])}, "row 1"),
        ({"tokens": pa.array([[0] * 14, [0] * 15])}, "row 1"),
        ({"extra_scale": None}, "extra_scale"),
        ({"extra_scale": pa.array([[1.0], [1.0, 2.0]])}, "scale"),
    ],
)
def test_damaged_columns_are_refused(tmp_path, columns, named):
    path = TokenShardWriter(tmp_path, header(SNAC.layout)).write(0, zeros(SNAC.layout, 2, scale=torch.ones(2, 2)), keys=["a", "b"])
    assert len(TokenDataset([path])) == 2
    rewrite(path, **columns)
    with pytest.raises(DataError, match=named):
        TokenDataset([path])


def test_latents_are_whole_vectors(tmp_path):
    path = TokenShardWriter(tmp_path, header(MEL.layout)).write(0, zeros(MEL.layout), keys=["a"])
    rewrite(path, latents=pa.array([[0.0] * 11], pa.list_(pa.float32())))
    with pytest.raises(DataError, match="row 0"):
        TokenDataset([path])


def test_positions_beyond_a_samples_own_extent_are_found(tmp_path):
    small, large = PATCHES.layout.at([1, 1]), PATCHES.layout.at([2, 2])
    kept = [Tokens.from_samples([torch.tensor([5])], layout, positions=[torch.tensor([0])]) for layout in (small, large)]
    path = TokenShardWriter(tmp_path, header(PATCHES.layout)).write(0, Tokens.cat(kept), keys=["a", "b"])
    rewrite(path, positions=pa.array([[1], [1]]))
    dataset = TokenDataset([path])
    assert dataset.batch([1]).tokens.positions.tolist() == [[1]]
    with pytest.raises(DataError, match="'a'"):
        dataset.batch([0])


def test_a_shard_that_holds_too_much_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("visiontok.data.token_shards._MOST_VALUES", 20)
    writer = TokenShardWriter(tmp_path, header(GRID.layout))
    writer.write(0, zeros(GRID.layout, 3), keys=["a", "b", "c"])
    with pytest.raises(DataError, match="24"):
        writer.write(1, zeros(GRID.layout, 4), keys=["a", "b", "c", "d"])
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.parquet"]


def test_levels_are_a_set_of_their_own(tmp_path):
    whole = zeros(RVQ.layout.at([5]), 2)
    short = whole.levels(2)
    path = TokenShardWriter(tmp_path, header(short.layout)).write(0, short, keys=["a", "b"])
    dataset = TokenDataset([path])
    assert dataset.layout.num_levels == 2
    assert RVQ.layout.accepts(dataset.layout)
    assert math.isclose(float(dataset[0:1].tokens.bits), float(short.bits[0]))
