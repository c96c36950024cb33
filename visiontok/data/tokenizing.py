"""From a source of pictures to a token set on disk, in a run that may be killed at any moment and started again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visiontok.base.errors import ConfigError, DataError
from visiontok.base.files import replacing
from visiontok.core.model import weights_sha256
from visiontok.core.text_tokenizer import encodes_with_text
from visiontok.core.tokenizer import Tokenizer
from visiontok.data.prefetch import prefetch
from visiontok.data.skips import UNUSABLE, Skip
from visiontok.data.source import Source
from visiontok.data.texts import Texts, TextsConfig, texts_of
from visiontok.data.token_shards import Manifest, Shard, TokenizerIdentity, TokenSetHeader, TokenShardWriter, check_alike
from visiontok.signals import Preprocessing
from visiontok.tokens import Tokens

SKIPPED = "skipped.json"


@dataclass(frozen=True)
class TokenizedSet:
    """What `tokenize_source` made.

    Attributes:
        manifest: of the finished set.
        skipped: every sample that could not be read, those of earlier runs included.
    """

    manifest: Manifest
    skipped: tuple[Skip, ...]


def tokenize_source(
    source: Source,
    tokenizer: Tokenizer[Any],
    folder: str | Path,
    *,
    identity: TokenizerIdentity,
    batch_size: int = 64,
    shard_size: int = 10_000,
    num_workers: int = 0,
    flip: bool = False,
    text: TextsConfig | None = None,
    progress: Callable[[int, int], None] = lambda settled, total: None,
) -> TokenizedSet:
    """Encode every picture and write its tokens, label and caption to `folder`, which `TokenDataset` reads.

    Shard number i holds samples i * shard_size to (i + 1) * shard_size of the source and is written whole or not at all, so that a run
    that was killed goes on at the first missing shard; samples are neither lost nor repeated. Pictures that cannot be read are left out and
    listed in `skipped.json`.

    Args:
        source: of pictures.
        tokenizer: with ids, not continuous latents.
        folder: empty, or left by an earlier run with the same arguments (batch_size and num_workers may differ).
        identity: of the tokenizer, see `identify`.
        batch_size: pictures per call of the tokenizer.
        shard_size: samples of the source per shard.
        num_workers: processes that read pictures while the tokenizer encodes; 0 reads in between.
        flip: store each picture's mirror image behind it, with "#flipped" behind its key.
        text: where a tokenizer whose encoder reads a text gets it; None takes the captions that the source has, else its class names.
        progress: called with the samples settled so far and in all: first with those of earlier runs, then after every batch.

    Raises:
        ConfigError: if the tokenizer has no ids, or its encoder reads no text and one is given.
        DataError: if the folder belongs to another tokenizer, source, shard size, flip or text; if pictures of one batch end up in different
            sizes; if no picture could be read; if the tokenizer needs texts and the source has none.
        TextError: if the tokenizer needs texts and has no text encoder.
    """
    if tokenizer.layout.is_continuous:
        raise ConfigError(f"{identity.name} has continuous latents and so no ids that a token set could hold")
    if min(batch_size, shard_size) < 1 or num_workers < 0:
        raise ConfigError(f"batch size {batch_size} and shard size {shard_size} must be at least 1, and {num_workers} workers at least 0")
    texts = _texts_config(tokenizer, source, text, name=identity.name)
    about_texts = {"text": texts.to_dict()} if texts else {}
    header = TokenSetHeader(
        layout=tokenizer.layout,
        tokenizer=identity,
        source={"identity": source.identity, "samples": len(source), "shard_size": shard_size, "flip": flip, **about_texts},
        class_names=source.class_names or (),
    )
    writer = TokenShardWriter(folder, header)
    ranges = {number: range(first, min(first + shard_size, len(source))) for number, first in enumerate(range(0, len(source), shard_size))}
    check_alike(header, [Shard.read(writer.path(number)) for number in ranges if writer.path(number).exists()])
    missing = {number: samples for number, samples in ranges.items() if not writer.path(number).exists()}
    settled = len(source) - sum(len(samples) for samples in missing.values())
    progress(settled, len(source))

    plan = [samples[start : start + batch_size] for samples in missing.values() for start in range(0, len(samples), batch_size)]
    reader = _Reader(source, tokenizer.preprocessing, plan, flip, None if texts is None else Texts(texts, source.class_names))
    encoded = _encode(tokenizer, prefetch(reader.read, range(len(plan)), num_workers=num_workers))
    for number, samples in missing.items():
        pictures, tokens = [], []
        for read, ids in islice(encoded, math.ceil(len(samples) / batch_size)):
            pictures.append(read)
            tokens.append(ids)
            settled += read.settled
            progress(settled, len(source))
        writer.write(
            number,
            Tokens.cat(tokens),
            keys=[key for read in pictures for key in read.keys],
            labels=[label for read in pictures for label in read.labels],
            captions=[caption for read in pictures for caption in read.captions],
            notes={"skipped": [asdict(skip) for read in pictures for skip in read.skipped]},
        )
    return _finish(source, writer, len(ranges))


def identify(tokenizer: Tokenizer[Any], name: str, *, revision: str | None = None) -> TokenizerIdentity:
    """The identity of a loaded tokenizer: how it was called and the SHA-256 of its weights."""
    return TokenizerIdentity(name=name, revision=revision, weights_sha256=weights_sha256(tokenizer.state_dict()))


def _texts_config(tokenizer: Tokenizer[Any], source: Source, asked: TextsConfig | None, *, name: str) -> TextsConfig | None:
    """Where the encoder's texts come from; None if it reads none."""
    if encodes_with_text(tokenizer):
        return asked or texts_of(source, name=name)
    if asked is not None:
        raise ConfigError(f"the encoder of {name} reads no text; leave the text out")
    return None


@dataclass(frozen=True)
class _Pictures:
    """One batch as it was read: pixels (3, H, W) uint8 each, and what was left out. Arrays, not tensors, since those would pass between
    processes through shared memory, of which containers have little. Texts are those that the encoder reads; none where it reads none."""

    pixels: list[np.ndarray]
    keys: list[str]
    labels: list[int | None]
    captions: list[str | None]
    texts: list[str]
    skipped: list[Skip]
    settled: int


class _Reader:
    """Reads and preprocesses batches of a plan, by number."""

    def __init__(self, source: Source, preprocessing: Preprocessing, plan: Sequence[range], flip: bool, texts: Texts | None) -> None:
        self._source, self._preprocessing, self._plan, self._flip, self._texts = source, preprocessing, plan, flip, texts

    def read(self, number: int) -> _Pictures:
        read = _Pictures([], [], [], [], [], [], settled=len(self._plan[number]))
        for index in self._plan[number]:
            try:
                sample = self._source.read(index)
                text = None if self._texts is None else self._texts.of_sample(sample)
                # Files have 8 bits per channel and keep them when they are resized, so this loses nothing.
                pixels = (self._preprocessing(sample.signal).values[0] * 255).round().byte().numpy()
            except UNUSABLE as error:
                read.skipped.append(Skip(self._source.key(index), str(error)))
                continue
            for suffix, stored in [("", pixels), ("#flipped", pixels[:, :, ::-1])][: 1 + self._flip]:
                read.pixels.append(stored)
                read.keys.append(sample.key + suffix)
                read.labels.append(sample.label)
                read.captions.append(sample.caption)
                if text is not None:
                    read.texts.append(text)
        return read


def _encode(tokenizer: Tokenizer[Any], batches: Iterator[_Pictures]) -> Iterator[tuple[_Pictures, Tokens]]:
    """Encode one batch ahead: on a GPU the ids are fetched only when the next batch is under way."""
    pending: tuple[_Pictures, Tokens] | None = None
    for read in batches:
        launched = read, _tokens(tokenizer, read)
        if pending is not None:
            yield pending[0], pending[1].to("cpu")
        pending = launched
    if pending is not None:
        yield pending[0], pending[1].to("cpu")


def _tokens(tokenizer: Tokenizer[Any], read: _Pictures) -> Tokens:
    if not read.pixels:
        return Tokens.from_samples([], tokenizer.layout).to(tokenizer.device)
    sizes: dict[tuple[int, ...], str] = {}
    for pixels, key in zip(read.pixels, read.keys, strict=True):
        sizes.setdefault(pixels.shape[1:], key)
    if len(sizes) > 1:
        found = ", ".join(f"{height} x {width} ({key})" for (height, width), key in sizes.items())
        raise DataError(f"this model takes pictures as they are, and these differ in size: {found}. Bring them to one size first")
    text = read.texts if encodes_with_text(tokenizer) else None
    tokens = tokenizer.encode(torch.from_numpy(np.stack(read.pixels)).to(tokenizer.device), text=text)
    if not isinstance(tokens, Tokens) or not tokenizer.layout.accepts(tokens.layout):
        raise DataError(f"pictures such as {read.keys[0]} do not give the layout of this model: got {tokens.layout}, expected {tokenizer.layout}")
    return tokens


def _finish(source: Source, writer: TokenShardWriter, count: int) -> TokenizedSet:
    notes = [Shard.read(writer.path(number)).notes for number in range(count)]
    skipped = (*source.skipped, *(Skip(**skip) for note in notes for skip in note["skipped"]))
    if len(source) == sum(len(note["skipped"]) for note in notes):
        raise DataError(f"none of {len(source)} pictures could be read; the first: {skipped[0].reason if skipped else 'there is none'}")
    with replacing(writer.folder / SKIPPED) as temporary:
        temporary.write_text(json.dumps([asdict(skip) for skip in skipped], indent=1), encoding="utf-8")
    for pattern in (".part-*.parquet", ".skipped.*.json", ".manifest.*.json"):
        for leftover in writer.folder.glob(pattern):  # a run that was killed could not remove the file it was writing
            leftover.unlink()
    return TokenizedSet(writer.finish(skipped=len(skipped)), skipped)
