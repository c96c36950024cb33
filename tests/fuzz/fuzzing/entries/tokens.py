"""Tokens and latents: single files and sets."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import torch

from fuzzing.entry import Entry, Files, read_files
from visiontok.core.identity import TokenizerIdentity
from visiontok.data.token_dataset import TokenDataset
from visiontok.data.token_file import TokenFile
from visiontok.data.token_shards import TokenSetHeader, TokenShardWriter
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens

_TOKENIZER = TokenizerIdentity(name="a", weights_sha256="0" * 64)
_GRID = TokenLayout(modality="image", segments=(Segment(name="grid", shape=(2, 3), vocab_size=300, stride=(8, 8)),), signal_shape=(16, 24))
_RAGGED = TokenLayout(modality="image", segments=(Segment(name="kept", shape=(6,), vocab_size=9),), signal_shape=(8, 8), ragged=True, prefixes="any")
_FREE = TokenLayout(
    modality="audio",
    segments=(Segment(name="frames", shape=(3,), vocab_size=(9, 300), codebooks=2, stride=(4,), free_axes=(0,)),),
    signal_shape=(12,),
    rate=100.0,
    levels="any",
)
_LATENTS = TokenLayout(modality="image", segments=(Segment(name="grid", shape=(2, 2), channels=3, stride=(4, 4)),), signal_shape=(8, 8))


@lru_cache(maxsize=1)
def batches() -> tuple[Tokens | Latents, ...]:
    """Small batches of every kind of layout."""
    draw = torch.Generator().manual_seed(0)
    ragged = [torch.tensor([1, 2, 3]), torch.tensor([4]), torch.tensor([5, 6])]
    positions = [torch.tensor([0, 2, 5]), torch.tensor([3]), torch.tensor([0, 1])]
    free = torch.stack([torch.randint(0, 9, (3, 3), generator=draw), torch.randint(0, 300, (3, 3), generator=draw)], dim=2).reshape(3, 6)
    extras = {"scale": torch.tensor([[1.0], [2.0], [0.5]])}
    return (
        Tokens(torch.randint(0, 300, (3, 6), generator=draw), layout=_GRID, extras=extras),
        Tokens.from_samples(ragged, _RAGGED, positions=positions, extents=None, extras={}),
        Tokens.from_samples([free[0], free[1, :4], free[2, :2]], _FREE, positions=None, extents=torch.tensor([[3], [2], [1]]), extras={}),
        Latents(torch.randn(3, 4, 3, generator=draw), layout=_LATENTS),
    )


def written(write: Callable[[Path], object]) -> Files:
    """What a function writes into the folder that it is given."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return read_files(Path(folder))


def _files() -> list[Files]:
    def write(folder: Path, batch: Tokens | Latents) -> None:
        TokenFile(batch, ("a", "b", "c"), _TOKENIZER, (0, 1, 2)).write(folder / "x.npz")

    return [written(partial(write, batch=batch)) for batch in batches()]


def _read_file(folder: Path) -> None:
    found = TokenFile.read(folder / "x.npz")
    found.tokens.validate()
    assert len(found.tokens) == len(found.keys)
    check_batch(found.tokens)


def check_batch(tokens: Tokens | Latents) -> None:
    """What a reader gives can be used: values are in range and finite."""
    if isinstance(tokens, Latents):
        assert bool(tokens.values[tokens.mask].isfinite().all()), "latents are not finite"
        return
    assert not tokens.indices.is_floating_point(), tokens.indices.dtype
    used = tokens.indices[tokens.mask]
    assert not used.numel() or 0 <= int(used.min()) <= int(used.max()) < int(tokens.layout.vocab_sizes.max()), "indices out of range"


def _sets() -> list[Files]:
    def write(folder: Path, batch: Tokens | Latents) -> None:
        writer = TokenShardWriter(folder, TokenSetHeader(layout=batch.layout, tokenizer=_TOKENIZER, source={"samples": 6}, class_names=("x", "y")))
        for number in range(2):
            keys = [f"{number}/{name}" for name in "abc"]
            writer.write(number, batch, keys=keys, labels=[0, 1, 1], captions=["one", None, "three"], notes={"skipped": []})
        writer.finish(skipped=1)

    return [written(partial(write, batch=batch)) for batch in batches()]


def _read_set(folder: Path) -> None:
    found = TokenDataset(folder)
    assert len(found) == sum(shard.rows for shard in found.shards)
    for start in range(0, len(found), 4):
        batch = found[start : start + 4]
        check_batch(batch.tokens)
        assert all(isinstance(key, str) for key in batch.keys), batch.keys
        assert len(batch.tokens) == len(batch.keys)
        assert batch.labels is None or bool((batch.labels >= 0).all()), batch.labels


ENTRIES = (
    Entry("token-file", _files, _read_file, cases=200, documented=(FileNotFoundError,)),
    Entry("token-set", _sets, _read_set, cases=150),
)
