"""A token folder for those who do not know visiontok: datasets, pandas, and PyTorch's own DataLoader."""

from __future__ import annotations

import pickle
from pathlib import Path

import datasets
import numpy as np
import pandas
import pytest
import torch
from torch.utils.data import DataLoader

import visiontok
from visiontok.core.identity import TokenizerIdentity, identify
from visiontok.data.config import open_source
from visiontok.data.token_dataset import TokenBatch, TokenDataset, TokenSample
from visiontok.data.token_shards import TokenSetHeader, TokenShardWriter
from visiontok.data.tokenizing import tokenize_source
from visiontok.tokens import Segment, TokenLayout, Tokens


def write(folder: Path, tokens: Tokens, **columns) -> TokenDataset:
    header = TokenSetHeader(layout=tokens.layout, tokenizer=TokenizerIdentity(name="tiny", weights_sha256="0" * 64), source="test")
    writer = TokenShardWriter(folder, header)
    half = len(tokens) // 2
    for number, rows in enumerate((slice(None, half), slice(half, None))):
        given = {name: values[rows] for name, values in columns.items()}
        writer.write(number, tokens[rows], keys=[f"{index}" for index in range(len(tokens))][rows], **given)
    writer.finish()
    return TokenDataset(folder)


@pytest.fixture
def dataset(tmp_path: Path) -> TokenDataset:
    layout = TokenLayout(modality="image", segments=(Segment(name="s", shape=(6,), vocab_size=16),), signal_shape=(8, 8))
    indices = torch.randint(0, 16, (10, 6), generator=torch.Generator().manual_seed(0))
    return write(tmp_path / "set", Tokens(indices, layout), labels=list(range(10)), captions=["a"] * 9 + [None])


def test_datasets_and_pandas_read_the_folder_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    size = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 4}
    quantizer = {"type": "vq", "codebook_size": 16, "dim": 4}
    tokenizer = visiontok.create("titok", image_size=8, num_latent_tokens=4, encoder=size, decoder=size, quantizer=quantizer).eval()
    monkeypatch.chdir(tmp_path)
    tokenize_source(open_source("digits:test"), tokenizer, "tok/test-set", identity=identify(tokenizer, "tiny"), batch_size=120, shard_size=150)
    ours = TokenDataset("tok/test-set")
    frame = pandas.read_parquet("tok/test-set")
    assert len(frame) == len(ours)
    assert np.array_equal(np.stack(frame["tokens"]), ours[:].tokens.numpy())
    for name in ("notes.json", "LICENSE.txt"):
        (tmp_path / "tok" / "test-set" / name).write_text("{}")
    loaded = datasets.load_dataset("tok/test-set", cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert loaded["train"]["key"][:] == frame["key"].tolist()
    assert loaded["train"].with_format("torch")[3]["tokens"].tolist() == ours[3].tokens.indices[0].tolist()


def test_a_sample(dataset: TokenDataset):
    sample = dataset[3]
    assert isinstance(sample, TokenSample)
    assert (sample.key, sample.label, sample.caption) == ("3", 3, "a")
    assert torch.equal(sample.tokens.indices, dataset[:].tokens.indices[3:4])
    assert dataset[-1].key == dataset[np.int64(9)].key == dataset[torch.tensor(9)].key == "9"
    assert dataset[-1].caption is None
    assert [sample.key for sample in dataset] == [str(index) for index in range(10)]


@pytest.mark.parametrize("row", [10, -11])
def test_rows_outside_are_an_index_error(dataset: TokenDataset, row: int):
    with pytest.raises(IndexError, match=str(row)):
        dataset[row]


@pytest.mark.parametrize("row", ["0", 1.0, [0, 1]])
def test_other_indices_are_refused(dataset: TokenDataset, row: object):
    with pytest.raises(TypeError, match=type(row).__name__):
        dataset[row]  # type: ignore[call-overload]


@pytest.mark.parametrize("context", [None, "fork", "spawn"])
def test_a_plain_loader_gives_batches(dataset: TokenDataset, context: str | None):
    loader = DataLoader(dataset, batch_size=4, num_workers=0 if context is None else 1, multiprocessing_context=context)
    batches = list(loader)
    assert [len(batch.tokens) for batch in batches] == [4, 4, 2]
    assert all(isinstance(batch, TokenBatch) for batch in batches)
    assert torch.equal(Tokens.cat([batch.tokens for batch in batches]).indices, dataset[:].tokens.indices)
    assert torch.equal(torch.cat([batch.labels for batch in batches]), torch.arange(10))
    assert [key for batch in batches for key in batch.keys] == [str(index) for index in range(10)]


def test_shuffled_batches_hold_every_sample_once(dataset: TokenDataset):
    loader = DataLoader(dataset, batch_size=3, shuffle=True, generator=torch.Generator().manual_seed(0))
    assert sorted(key for batch in loader for key in batch.keys) == [str(index) for index in range(10)]


def test_samples_of_different_length_and_without_labels(tmp_path: Path):
    layout = TokenLayout(modality="image", segments=(Segment(name="s", shape=(6,), vocab_size=16),), signal_shape=(8, 8), ragged=True)
    tokens = Tokens.from_samples([torch.arange(count) for count in (1, 6, 3, 2)], layout)
    dataset = write(tmp_path / "ragged", tokens, labels=[0, None, 1, 2])
    assert dataset[0].label is None
    (batch,) = DataLoader(dataset, batch_size=4)
    assert batch.labels is None
    assert torch.equal(batch.tokens.indices, tokens.indices)
    assert torch.equal(batch.tokens.sample_lengths, tokens.sample_lengths)


def test_a_set_is_pickled(dataset: TokenDataset):
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[:].tokens.indices, dataset[:].tokens.indices)
