import json
import os

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visiontok.base.errors import DataError, TokenError
from visiontok.core.identity import TokenizerIdentity
from visiontok.data.token_dataset import TokenDataset
from visiontok.data.token_shards import Shard, TokenSetHeader, TokenShardWriter
from visiontok.tokens import Segment, TokenLayout, Tokens


def layout(vocab_size=4096, length=6, **options):
    return TokenLayout(
        modality="image", segments=(Segment(name="latents", shape=(length,), vocab_size=vocab_size),), signal_shape=(16, 16), **options
    )


def header(of=None, name="tiny", **changes):
    identity = TokenizerIdentity(name=name, revision="main", weights_sha256="0" * 64)
    return TokenSetHeader(**{"layout": of or layout(), "tokenizer": identity, "source": {"digits": "train"}, **changes})


def samples(of, count, seed=0):
    return Tokens(torch.randint(0, int(of.vocab_sizes[0]), (count, of.length), generator=torch.Generator().manual_seed(seed)), of)


@pytest.fixture
def folder(tmp_path):
    """Three shards of 4, 0 and 3 samples."""
    writer = TokenShardWriter(tmp_path / "set", header())
    for number, count in enumerate([4, 0, 3]):
        keys = [f"{number}-{row}" for row in range(count)]
        writer.write(number, samples(layout(), count, seed=number), keys=keys, labels=list(range(count)), captions=[f"a {key}" for key in keys])
    writer.finish()
    return tmp_path / "set"


def expected():
    return torch.cat([samples(layout(), 4, seed=0).indices, samples(layout(), 3, seed=2).indices])


KEYS = ["0-0", "0-1", "0-2", "0-3", "2-0", "2-1", "2-2"]


def test_reads_back_what_was_written(folder):
    dataset = TokenDataset(folder)
    assert len(dataset) == 7
    assert dataset.layout == layout()
    batch = dataset.batch([6, 0, 4, 4])
    assert torch.equal(batch.tokens.indices, expected()[[6, 0, 4, 4]])
    assert batch.labels.tolist() == [2, 0, 0, 0]
    assert batch.captions == ["a 2-2", "a 0-0", "a 2-0", "a 2-0"]
    assert batch.keys == ["2-2", "0-0", "2-0", "2-0"]
    assert torch.equal(dataset[2:5].tokens.indices, expected()[2:5])
    assert dataset.batch([]).tokens.indices.shape == (0, 6)


def test_a_list_of_files_is_read_without_a_manifest(folder):
    (folder / "_manifest.json").unlink()
    assert len(TokenDataset([folder / "part-00002.parquet"])) == 3
    with pytest.raises(DataError, match=r"3 token shards and no _manifest.json.* not a finished token set"):
        TokenDataset(folder)


def test_pandas_duckdb_and_datasets_read_the_files(folder, tmp_path):
    import datasets
    import duckdb

    frame = pandas.read_parquet(folder / "part-00002.parquet")
    np.testing.assert_array_equal(np.stack(frame.tokens), expected()[4:])
    assert list(frame.columns) == ["key", "label", "caption", "tokens"]
    rows = duckdb.sql(f"select key, label, tokens[1] from '{folder}/part-*.parquet' order by key").fetchall()
    assert rows == [(key, label, int(ids[0])) for key, label, ids in zip(KEYS, [0, 1, 2, 3, 0, 1, 2], expected(), strict=True)]
    files = [str(path) for path in sorted(folder.glob("*.parquet"))]
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["key"][:] == KEYS
    assert loaded["tokens"][:] == expected().tolist()


@pytest.mark.parametrize(("vocab_size", "kind"), [(256, "uint8"), (257, "uint16"), (2**16 + 1, "uint32"), (2**32 + 1, "int64"), (2**63 - 1, "int64")])
def test_tokens_take_the_smallest_integers_that_hold_them(tmp_path, vocab_size, kind):
    of = layout(vocab_size, length=1)
    path = TokenShardWriter(tmp_path, header(of)).write(0, Tokens(torch.tensor([[vocab_size - 1]]), of), keys=["a"])
    assert str(pq.read_schema(path).field("tokens").type.value_type) == kind
    assert TokenDataset([path]).batch([0]).tokens.indices.tolist() == [[vocab_size - 1]]


def test_the_schema_metadata_says_what_the_tokens_are(folder):
    metadata = pq.read_schema(folder / "part-00000.parquet").metadata
    assert TokenLayout.parse(json.loads(metadata[b"visiontok.layout"])) == layout()
    assert json.loads(metadata[b"visiontok.tokenizer"]) == {"name": "tiny", "revision": "main", "weights_sha256": "0" * 64}
    assert json.loads(metadata[b"visiontok.source"]) == {"digits": "train"}
    assert metadata[b"visiontok.version"]


def test_kept_tokens_keep_their_positions_and_others_need_none(tmp_path):
    of = layout(ragged=True)
    writer = TokenShardWriter(tmp_path, header(of))
    kept = Tokens.from_samples([torch.tensor([5, 6]), torch.tensor([7])], of, positions=[torch.tensor([1, 4]), torch.tensor([5])])
    writer.write(0, kept, keys=["a", "b"])
    writer.write(1, Tokens.from_samples([torch.tensor([8, 9, 10]), torch.tensor([]).long()], of), keys=["c", "d"])
    writer.finish()
    dataset = TokenDataset(tmp_path)
    batch = dataset.batch([1, 0]).tokens
    assert batch.positions.tolist() == [[5, -1], [1, 4]]
    assert dataset.batch([2, 3]).tokens.positions is None
    mixed = dataset.batch([3, 0, 2]).tokens
    assert mixed.indices.tolist() == [[-1, -1, -1], [5, 6, -1], [8, 9, 10]]
    assert mixed.positions.tolist() == [[-1, -1, -1], [1, 4, -1], [0, 1, 2]]


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=1, max_size=9), st.data())
def test_ragged_rows_come_back_in_any_order(tmp_path_factory, rows, data):
    of = layout(100, ragged=True)
    cut = data.draw(st.integers(0, len(rows)))
    folder = tmp_path_factory.mktemp("set")
    writer = TokenShardWriter(folder, header(of))
    for number, part in enumerate([range(cut), range(cut, len(rows))]):
        writer.write(number, Tokens.from_samples([torch.tensor(rows[row]).long() for row in part], of), keys=[str(row) for row in part])
    writer.finish()
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1))
    batch = TokenDataset(folder).batch(chosen)
    assert batch.keys == [str(number) for number in chosen]
    lengths = batch.tokens.sample_lengths.tolist()
    assert [row[:length].tolist() for row, length in zip(batch.tokens.indices, lengths, strict=True)] == [rows[number] for number in chosen]


def test_labels_are_none_where_a_sample_has_none(tmp_path):
    path = TokenShardWriter(tmp_path, header()).write(0, samples(layout(), 2), keys=["a", "b"], labels=[3, None])
    dataset = TokenDataset([path])
    assert dataset.label_range is None
    assert dataset.batch([0]).labels is None
    assert dataset.batch([0]).captions == [None]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (header(name="other"), r'part-00001.parquet belongs to another token set: tokenizer.name is "other" there and "tiny" here$'),
        (header(layout(8)), r"layout.segments is .*\"vocab_size\": 8.* there and .*\"vocab_size\": 4096"),
        (header(source={"digits": "test"}), r'source.digits is "test" there and "train" here'),
    ],
)
def test_shards_of_different_sets_do_not_mix(tmp_path, other, message):
    paths = [TokenShardWriter(tmp_path, one).write(number, samples(one.layout, 2), keys=["a", "b"]) for number, one in enumerate([header(), other])]
    with pytest.raises(DataError, match=message):
        TokenDataset(paths)
    with pytest.raises(DataError, match=message):
        TokenShardWriter(tmp_path, header()).finish()


def rewrite(path, metadata=None, **columns):
    table = pq.read_table(path)
    for name, column in columns.items():
        index = table.column_names.index(name)
        table = table.remove_column(index) if column is None else table.set_column(index, name, column)
    pq.write_table(table if metadata is None else table.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "part-00000.parquet is not a readable Parquet file"),
        (lambda path: path.write_bytes(b""), "part-00000.parquet is not a readable Parquet file"),
        (lambda path: path.unlink(), "part-00000.parquet is missing, but _manifest.json names it"),
        (lambda path: rewrite(path, metadata={}), "metadata describes no visiontok tokens"),
        (lambda path: rewrite(path, label=None), r"lacks the columns \['label'\]"),
        (lambda path: pq.write_table(pq.read_table(path)[:3], path), "has 3 rows, _manifest.json says 4"),
        (lambda path: rewrite(path, tokens=pa.array([[1] * 6, [1] * 6, [1] * 5, [1] * 6], pa.list_(pa.uint16()))), r"row 2 \(0-2\): 5 .* 6"),
        (lambda path: rewrite(path, tokens=pa.array([[1] * 6] * 3 + [None], pa.list_(pa.uint16()))), r"row 3 \(0-3\): 0"),
        (lambda path: rewrite(path, tokens=pa.array([[1] * 5 + [None]] * 4, pa.list_(pa.uint16()))), "a list with a null"),
    ],
)
def test_a_damaged_set_is_not_opened(folder, damage, message):
    damage(folder / "part-00000.parquet")
    with pytest.raises(DataError, match=message):
        TokenDataset(folder, verify_checksums=False)


def test_damaged_rows_are_found_when_they_are_read(folder):
    path = folder / "part-00000.parquet"
    data = bytearray(path.read_bytes())
    rewrite(path, tokens=pa.array([[1] * 6] * 3 + [[1] * 5 + [5000]], pa.list_(pa.uint16())))
    with pytest.raises(DataError, match=r"\['0-2', '0-3'\] do not fit .* 5000 of sample 1 at segment 'latents'"):
        TokenDataset(folder, verify_checksums=False).batch([2, 3])
    path.write_bytes(data)
    assert len(TokenDataset(folder)) == 7


@pytest.mark.parametrize("name", ["../part-00000.parquet", "sub/part-00000.parquet"])
def test_a_manifest_cannot_name_files_elsewhere(folder, name):
    manifest = json.loads((folder / "_manifest.json").read_text())
    (folder / "_manifest.json").write_text(json.dumps({**manifest, "shards": {name: 4}}))
    with pytest.raises(DataError, match="not a file of its folder"):
        TokenDataset(folder)


@pytest.mark.parametrize("row", [-1, 7])
def test_rows_outside_are_refused(folder, row):
    with pytest.raises(IndexError, match=rf"row {row} is outside \[0, 7\)"):
        TokenDataset(folder).batch([0, row])


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match="no token shards"):
        TokenDataset([])
    with pytest.raises(DataError, match="is not a folder"):
        TokenDataset(tmp_path / "absent")


def test_finish_misses_a_shard(folder):
    (folder / "part-00001.parquet").unlink()
    with pytest.raises(DataError, match=r"part-00001.parquet is missing: .* part-00002.parquet"):
        TokenShardWriter(folder, header()).finish()


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda writer: writer.write(0, samples(layout(8), 1), keys=["a"]), DataError, "layout"),
        (lambda writer: writer.write(0, samples(layout(), 2), keys=["a"]), DataError, "2 samples were given with 1 values of 'key'"),
        (lambda writer: writer.write(0, samples(layout(), 1), keys=["a"], labels=[1, 2]), DataError, "1 samples .* 2 values of 'label'"),
        (lambda writer: writer.write(0, Tokens(torch.full((1, 6), 4096), layout()), keys=["a"]), TokenError, "4096 of sample 0"),
    ],
)
def test_a_shard_that_cannot_be_leaves_no_file(tmp_path, act, error, message):
    with pytest.raises(error, match=message):
        act(TokenShardWriter(tmp_path, header()))
    assert os.listdir(tmp_path) == []


def test_notes_and_identical_bytes(tmp_path):
    writer = TokenShardWriter(tmp_path, header())
    path = writer.write(3, samples(layout(), 2), keys=["a", "b"], notes={"first": 6, "skipped": ["c"]})
    assert path.name == "part-00003.parquet"
    assert Shard.read(path).notes == {"first": 6, "skipped": ["c"]}
    before = path.read_bytes()
    writer.write(3, samples(layout(), 2), keys=["a", "b"], notes={"first": 6, "skipped": ["c"]})
    assert path.read_bytes() == before
