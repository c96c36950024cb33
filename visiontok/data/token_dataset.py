"""Token sets for training and evaluation: random access to the samples of Parquet shards."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data._utils.collate import default_collate_fn_map

from visiontok.base.errors import DataError, TokenError
from visiontok.base.file_names import check_name
from visiontok.base.files import file_sha256
from visiontok.core.identity import TokenizerIdentity
from visiontok.data.plan import Blocks
from visiontok.data.token_blocks import BlockCache, TokenBlock, read_block, read_blocks
from visiontok.data.token_keys import check_keys, read_keys
from visiontok.data.token_shards import MANIFEST, Manifest, Shard, TokenSetHeader, check_alike, check_shard_sha256
from visiontok.tokens import Latents, TokenLayout, Tokens
from visiontok.tokens.batch import cat_padded

WINDOW_BYTES = 2**26
"""Memory of the samples that are shuffled among each other, and kept in memory at once."""


@dataclass(frozen=True)
class TokenBatch:
    """Some samples of a token set.

    Attributes:
        tokens: B samples.
        labels: (B,) int64; None for sets in which a sample has no label.
        captions: B texts, None where there is none.
        keys: B names.
    """

    tokens: Tokens | Latents
    labels: Tensor | None
    captions: list[str | None]
    keys: list[str]


@dataclass(frozen=True)
class TokenSample:
    """One sample of a token set. `torch.utils.data.default_collate`, and so a plain `DataLoader`, makes a `TokenBatch` of several.

    Attributes:
        tokens: a batch of this one sample.
        label: its class; None in sets in which a sample has no label.
        caption: its text, None where there is none.
        key: its name.
    """

    tokens: Tokens | Latents
    label: int | None
    caption: str | None
    key: str


def collate(samples: Sequence[TokenSample], **_: Any) -> TokenBatch:
    """Samples of one token set, which may differ in length and extent, as a batch; further options of `default_collate` do not matter."""
    batch_class: Any = type(samples[0].tokens)
    labels = [sample.label for sample in samples]
    return TokenBatch(
        tokens=batch_class.cat([sample.tokens for sample in samples]),
        labels=None if None in labels else torch.tensor(labels, dtype=torch.int64),
        captions=[sample.caption for sample in samples],
        keys=[sample.key for sample in samples],
    )


default_collate_fn_map[TokenSample] = collate


class TokenDataset(Dataset[TokenSample]):
    """Samples of a finished token set, or of some of its shards. A map-style data set of PyTorch.

    Shards are mapped into memory, and a row group is decoded when one of its samples is read. The last ones are kept, as many as are shuffled among
    each other in training: memory does not grow with the set, and a set that fits is decoded once.

    Args:
        paths: a folder with a manifest, or the shards themselves.
        verify_checksums: whether the shards of a folder are compared with the SHA-256 in its manifest, which takes about a second per GB.

    Attributes:
        header: what all shards agree on.
        layout: of the samples; where it has free axes, at the largest extents that occur.
        label_range: the lowest and the highest label; None if any sample has no label, or there is no sample.
        blocks: how the samples lie in row groups.

    Raises:
        DataError: if the set is not finished, a shard is missing, damaged or of another set, or rows do not fit the layout or hold values that
            no tokenizer writes: keys of nothing, keys of two samples, negative labels, numbers of another kind, NaN. For this every row is read
            once, and every key twice.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path], *, verify_checksums: bool = True) -> None:
        shards = _shards_of(Path(paths), verify_checksums=verify_checksums) if isinstance(paths, str | Path) else [Shard.read(path) for path in paths]
        if not shards:
            raise DataError("no token shards were given")
        self.header: TokenSetHeader = shards[0].header
        check_alike(self.header, shards)
        self.shards = [replace(shard, header=self.header) for shard in shards]
        self._places = [(shard, group) for shard, found in enumerate(self.shards) for group in range(len(found.row_groups))]
        survey = _Survey.of(self.shards)
        check_keys([shard.path for shard in self.shards])
        self.label_range, self.blocks = survey.label_range, survey.blocks
        self.layout: TokenLayout = self.header.layout if survey.extents is None else self.header.layout.at(survey.extents)
        self._ends = np.cumsum(self.blocks.rows)
        largest = int(self.blocks.nbytes.max(initial=0))
        self._cache = BlockCache(self._read, max_bytes=WINDOW_BYTES + largest)

    def _read(self, block: int) -> TokenBlock:
        shard, group = self._places[block]
        return read_block(self.shards[shard], group)

    @property
    def tokenizer(self) -> TokenizerIdentity:
        """Whose tokens these are."""
        return self.header.tokenizer

    def keys(self) -> Iterator[str]:
        """Of all samples, in order; read from the shards as they are asked for."""
        for shard in self.shards:
            for keys in read_keys(shard.path):
                yield from keys

    def __len__(self) -> int:
        return int(self.blocks.rows.sum())

    @overload
    def __getitem__(self, rows: SupportsIndex) -> TokenSample: ...

    @overload
    def __getitem__(self, rows: slice) -> TokenBatch: ...

    def __getitem__(self, rows: SupportsIndex | slice) -> TokenSample | TokenBatch:
        """One sample, the last for -1; or those of a slice as a batch.

        Raises:
            IndexError: for a row outside [-len, len).
        """
        if isinstance(rows, slice):
            return self.batch(range(*rows.indices(len(self))))
        if not isinstance(rows, SupportsIndex):
            raise TypeError(f"index a token set with a number or a slice, or use batch(rows), not {type(rows).__name__}")
        row = operator.index(rows)
        found = self.batch([row + len(self) if -len(self) <= row < 0 else row])
        label = None if found.labels is None else int(found.labels[0])
        return TokenSample(found.tokens, label, found.captions[0], found.keys[0])

    def batch(self, rows: Iterable[int]) -> TokenBatch:
        """The samples of these rows, in this order.

        Raises:
            IndexError: for a row outside [0, len).
            DataError: naming the sample whose tokens do not fit the layout.
        """
        numbers = [int(row) for row in rows]
        wrong = [row for row in numbers if not 0 <= row < len(self)]
        if wrong:
            raise IndexError(f"row {wrong[0]} is outside [0, {len(self)})")
        places = np.searchsorted(self._ends, numbers, side="right").tolist()
        blocks = {place: self._cache[place] for place in places}
        found = [(blocks[place], row - int(self._ends[place] - self.blocks.rows[place])) for place, row in zip(places, numbers, strict=True)]
        keys = [block.key[row].as_py() for block, row in found]
        try:
            tokens = self._tokens(found)
        except TokenError as error:
            raise DataError(f"the samples {keys[:8]}{' ...' if len(keys) > 8 else ''} do not fit their layout: {error}") from error
        labels = None if self.label_range is None else torch.tensor([block.label[row].as_py() for block, row in found], dtype=torch.int64)
        return TokenBatch(tokens=tokens, labels=labels, captions=[block.caption[row].as_py() for block, row in found], keys=keys)

    def _tokens(self, found: Sequence[tuple[TokenBlock, int]]) -> Tokens | Latents:
        """The samples in these rows of blocks."""
        samples = [block.sample(row) for block, row in found]
        kept = [block.positions(row) for block, row in found]
        positions = None
        if any(row is not None for row in kept):
            positions = [torch.arange(len(sample)) if row is None else row for row, sample in zip(kept, samples, strict=True)]
        extents = [block.extents[row] for block, row in found if block.extents is not None]
        names = found[0][0].extras if found else {}
        extras = {name: cat_padded([block.extras[name].sample(row) for block, row in found]) for name in names}
        batch_class = Latents if self.layout.is_continuous else Tokens
        return batch_class.from_samples(
            samples, self.layout, positions=positions, extents=torch.from_numpy(np.stack(extents)) if extents else None, extras=extras
        )


@dataclass(frozen=True)
class _Survey:
    """What is known when every row was read once.

    Attributes:
        blocks: rows and memory of every row group.
        label_range: the lowest and the highest label; None if any sample has none, or there is no sample.
        extents: the largest along every axis; None where there is none.
    """

    blocks: Blocks
    label_range: tuple[int, int] | None
    extents: list[int] | None

    @classmethod
    def of(cls, shards: Iterable[Shard]) -> _Survey:
        rows, nbytes, ranges, extents = [], [], [], []
        for shard in shards:
            for block in read_blocks(shard):
                if not len(block.key):
                    raise DataError(f"{shard.path} is damaged: it has a row group without rows. Delete it and make it again")
                rows.append(len(block.key))
                nbytes.append(block.nbytes)
                ranges.append(None if block.label.null_count else (pc.min(block.label).as_py(), pc.max(block.label).as_py()))
                if block.extents is not None:
                    extents.append(block.extents.max(axis=0))
        known = [found for found in ranges if found is not None]
        return cls(
            Blocks(np.asarray(rows, dtype=np.int64), np.asarray(nbytes, dtype=np.int64), WINDOW_BYTES),
            (min(low for low, _ in known), max(high for _, high in known)) if known and len(known) == len(ranges) else None,
            np.stack(extents).max(axis=0).tolist() if extents else None,
        )


def _shards_of(folder: Path, *, verify_checksums: bool) -> list[Shard]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name a folder of token shards, or give the shards in a list")
    if not (folder / MANIFEST).is_file():
        found = len(list(folder.glob("part-*.parquet")))
        raise DataError(
            f"{folder} has {found} token shards and no {MANIFEST}, so it is not a finished token set. "
            "Run the command that makes it again to continue, or give the shards in a list to read them as they are"
        )
    manifest = Manifest.load(folder / MANIFEST)
    shards = []
    for name, rows in manifest.shards.items():
        try:
            check_name(name)
        except ValueError as error:
            raise DataError(f"{folder / MANIFEST} names a shard that is not a file of its folder: {error}") from error
        if not (folder / name).is_file():
            raise DataError(f"{folder / name} is missing, but {MANIFEST} names it")
        if verify_checksums:
            check_shard_sha256(folder / name, file_sha256(folder / name), manifest.sha256.get(name))
        shard = Shard.read(folder / name)
        if shard.rows != rows:
            raise DataError(f"{shard.path} has {shard.rows} rows, {MANIFEST} says {rows}")
        shards.append(shard)
    check_alike(manifest.header, shards)
    return shards
