"""Token sets that do not fit in memory: what is held does not grow with the set, and every sample is still read once an epoch."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visiontok.base.errors import DataError
from visiontok.core.identity import TokenizerIdentity
from visiontok.data.holdout import hold_out
from visiontok.data.plan import BatchPlan, Blocks
from visiontok.data.token_dataset import TokenDataset
from visiontok.data.token_shards import Shard, TokenSetHeader, TokenShardWriter
from visiontok.tokens import Segment, TokenLayout, Tokens
from visiontok.training.token_loaders import TokenSetLoader

LAYOUT = TokenLayout(modality="image", segments=(Segment(name="s", shape=(16,), vocab_size=4096),), signal_shape=(8, 8))
BLOCK, WINDOW = 2**13, 2**15


def write(folder: Path, samples: int, *, shard_size: int = 500) -> Path:
    header = TokenSetHeader(layout=LAYOUT, tokenizer=TokenizerIdentity(name="tiny", weights_sha256="0" * 64), source="test")
    writer = TokenShardWriter(folder, header)
    for number, first in enumerate(range(0, samples, shard_size)):
        rows = range(first, min(first + shard_size, samples))
        indices = torch.randint(0, 4096, (len(rows), 16), generator=torch.Generator().manual_seed(number))
        writer.write(number, Tokens(indices, LAYOUT), keys=[f"{row:06d}" for row in rows], labels=[row % 10 for row in rows])
    writer.finish()
    return folder


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four blocks of about a hundred samples."""
    monkeypatch.setattr("visiontok.data.token_shards.BLOCK_BYTES", BLOCK)
    monkeypatch.setattr("visiontok.data.token_dataset.WINDOW_BYTES", WINDOW)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "set", 2250)


def loader(dataset: TokenDataset, batch_size: int = 64, **options) -> TokenSetLoader:
    trained, _ = hold_out(dataset.keys(), 50, total=len(dataset))
    return TokenSetLoader(dataset, samples=trained, **{"batch_size": batch_size, "seed": 3, "rank": 0, "world_size": 1, **options})


def named(of: TokenSetLoader, start: int = 0) -> Iterator[list[str]]:
    """The keys of the samples of every step."""
    known = {tuple(row): key for row, key in zip(of.dataset[:].tokens.indices.tolist(), of.dataset.keys(), strict=True)}
    for batch in of.batches(start):
        yield [known[tuple(row)] for row in batch.tokens.indices.tolist()]


def test_a_shard_is_written_in_blocks_and_one_of_a_single_block_is_read_too(folder: Path, tmp_path: Path):
    shards = TokenDataset(folder).shards
    assert all(len(shard.row_groups) > 3 for shard in shards[:4])
    assert all(sum(shard.row_groups) == shard.rows for shard in shards)
    table = pq.read_table(shards[0].path)
    assert table.nbytes / len(shards[0].row_groups) <= BLOCK
    pq.write_table(table, tmp_path / "whole.parquet")
    assert Shard.read(tmp_path / "whole.parquet").row_groups == (500,)
    rows = [499, 0, 3]
    assert torch.equal(TokenDataset([tmp_path / "whole.parquet"]).batch(rows).tokens.indices, TokenDataset(folder).batch(rows).tokens.indices)


def test_memory_does_not_grow_with_the_set(tmp_path: Path):
    """What Arrow, NumPy and Python hold at most, over opening a set, holding samples out and reading an epoch."""

    def most(samples: int) -> int:
        path = write(tmp_path / f"{samples}", samples)
        before, arrow = pa.total_allocated_bytes(), 0
        tracemalloc.start()
        batches = loader(TokenDataset(path)).batches(0)
        for _ in range(samples // 64):
            next(batches)
            arrow = max(arrow, pa.total_allocated_bytes() - before)
        _, python = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return arrow + python

    most(500)  # what is imported and cached once
    small, large = most(1000), most(6000)
    assert large - small < 6000 * 16, "a set of 6,000 samples has 32 bytes of tokens in each, and much beside them"


def test_every_sample_is_read_once_an_epoch_in_another_order(folder: Path):
    of = loader(TokenDataset(folder), batch_size=50)
    assert of.plan.blocks is not None
    names = named(of)
    first, second = ([key for _ in range(44) for key in next(names)] for _ in range(2))
    assert len(of.samples) == 2200
    expected = {f"{row:06d}" for row in of.samples[:].tolist()}
    assert len(first) == len(second) == len(expected)
    assert set(first) == set(second) == expected
    assert first != second


def test_neighbors_come_from_all_over_the_set(folder: Path):
    batch = [int(key) for key in next(named(loader(TokenDataset(folder))))]
    far = np.abs(np.diff(batch)) > 200
    assert far.mean() > 0.4, "samples lie in blocks of about a hundred, of which four are shuffled among each other"


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_shares_of_all_processes_are_the_batches_of_one(folder: Path, world_size: int):
    dataset = TokenDataset(folder)
    whole = loader(dataset).batches(5)
    shares = [loader(dataset, rank=rank, world_size=world_size).batches(5) for rank in range(world_size)]
    for _ in range(40):  # over the end of an epoch
        assert torch.equal(torch.cat([next(share).tokens.indices for share in shares]), next(whole).tokens.indices)


def test_workers_and_a_resume_give_the_same_batches(folder: Path):
    whole = loader(TokenDataset(folder)).batches(0)
    for _ in range(20):
        next(whole)
    resumed = loader(TokenDataset(folder), num_workers=2).batches(20)
    for _ in range(20):
        expected, found = next(whole), next(resumed)
        assert torch.equal(found.tokens.indices, expected.tokens.indices)
        assert torch.equal(found.labels, expected.labels)


def test_a_shard_that_changes_after_it_was_opened_is_an_error(folder: Path):
    dataset = TokenDataset(folder)
    path = dataset.shards[1].path
    pq.write_table(pq.read_table(path), path)
    with pytest.raises(DataError, match=r"part-00001\.parquet"):
        dataset.batch([600])
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"part-00001\.parquet"):
        dataset.batch([600])


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 30)), min_size=1, max_size=12).filter(lambda blocks: any(rows for rows, _ in blocks)),
    st.integers(0, 3),
    st.integers(1, 7),
)
def test_an_epoch_of_any_blocks_is_a_permutation(blocks: list[tuple[int, int]], epoch: int, batch_size: int):
    of = Blocks(np.asarray([rows for rows, _ in blocks]), np.asarray([nbytes for _, nbytes in blocks]), window_bytes=40)
    samples = int(of.rows.sum())
    assert sorted(of.shuffled(np.arange(samples), seed=1, epoch=epoch).tolist()) == list(range(samples))
    plan = BatchPlan(samples, batch_size, seed=1, blocks=of)
    steps = (epoch + 1) * samples // batch_size + 1
    assert sorted(index for step in range(steps) for e, index in plan.slots(step) if e == epoch) == list(range(samples))


def test_samples_that_are_not_used_leave_their_blocks_smaller():
    of = Blocks(np.asarray([3, 2, 4]), np.asarray([1, 1, 1]), window_bytes=1)
    assert of.without(np.asarray([0, 3, 4, 8])).rows.tolist() == [2, 0, 3]
