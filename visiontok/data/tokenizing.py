"""From a source of signals to a token set on disk, in a run that may be killed at any moment and started again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from visiontok.base.errors import ConfigError, DataError, SignalError
from visiontok.base.files import remove_temporaries, replacing
from visiontok.base.locks import exclusive
from visiontok.core.identity import TokenizerIdentity
from visiontok.core.tokenizer import Tokenizer
from visiontok.core.windows import Windowed
from visiontok.data.prefetch import prefetch
from visiontok.data.skips import UNUSABLE, Skip
from visiontok.data.source import Source
from visiontok.data.texts import Texts, TextsConfig, texts_of
from visiontok.data.token_shards import Manifest, Shard, TokenSetHeader, TokenShardWriter, check_alike
from visiontok.signals import Preprocessing, SignalBatch, SignalLike, VideoPreprocessing
from visiontok.signals.video_reading import Clip
from visiontok.tokens import Latents, Tokens

SKIPPED = "_skipped.json"

_POSITIONS = 2**16
"""Samples or pixels, times the batch size, of which a batch of several signals of any size has no more, padding included: 256 x 256 images."""


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
    num_levels: int | None = None,
    flip: bool = False,
    clip_length: int | None = None,
    text: TextsConfig | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TokenizedSet:
    """Encode every signal and write its tokens or latents, its label and its caption to `folder`, which `TokenDataset` reads.

    Shard number i holds samples i * shard_size to (i + 1) * shard_size of the source and is written completely or not at all, so that a run
    that was killed goes on at the first missing shard; samples are neither lost nor repeated. Signals that cannot be read are skipped and
    listed in `_skipped.json`.

    Args:
        source: of signals; they may differ in size where the tokenizer takes any.
        tokenizer: encodes them, reproducibly.
        folder: empty, or left by an earlier run with the same arguments (batch_size and num_workers may differ).
        identity: of the tokenizer, see `identify`.
        batch_size: signals per call of the tokenizer.
        shard_size: samples of the source per shard.
        num_workers: processes that read signals while the tokenizer encodes; 0 reads in between.
        num_levels: codebook levels that are kept; None for all.
        flip: store the mirror image of each image or clip behind it, with "#flipped" behind its key.
        clip_length: cut clips into clips of so many frames, with "#0", "#1", ... behind their keys; the last one has the rest. None for one clip.
        text: where a tokenizer whose encoder reads a text gets it; None takes the captions that the source has, else its class names.
        progress: called with the number of samples done so far and in all: first with those of earlier runs, then after every batch.

    Raises:
        ConfigError: if its encoder reads no text and one is given, or signals without a width are to be mirrored.
        DataError: if the folder belongs to another tokenizer, source, shard size, number of levels, flip, clip length, window or text; if no signal
            could be read; if the tokenizer needs texts and the source has none.
        TextError: if the tokenizer needs texts and has no text encoder.
        TokenError: if it cannot write so many codebook levels.
        FolderInUseError: if another process writes the folder.
        OSError: if the folder cannot be written.
    """
    if clip_length is not None and (clip_length < 1 or source.modality != "video"):
        raise ConfigError(f"clips are cut into clips of 1 frame or more; got {clip_length} for {source.modality}")
    if min(batch_size, shard_size) < 1 or num_workers < 0:
        raise ConfigError(f"batch size {batch_size} and shard size {shard_size} must be at least 1, and {num_workers} workers at least 0")
    if flip and "width" not in tokenizer.preprocessing.spec.axes:
        raise ConfigError(f"only images and clips have mirror images; {identity.name} takes {tokenizer.preprocessing.spec.modality}")
    texts = _texts_config(tokenizer, source, text, name=identity.name)
    about_texts = {"text": texts.to_dict()} if texts else {}
    prepared = tokenizer.preprocessing
    about_clips = {"clip_length": clip_length, "frames": prepared.frames.to_dict()} if isinstance(prepared, VideoPreprocessing) else {}
    is_windowed = isinstance(tokenizer, Windowed) and tokenizer.windows_matter
    about_windows = {"windows": f"{tokenizer.window:g} {tokenizer.window_unit}"} if is_windowed else {}
    header = TokenSetHeader(
        layout=tokenizer.layout if num_levels is None else tokenizer.layout.with_levels(num_levels),
        tokenizer=identity,
        source={
            "identity": source.identity,
            "samples": len(source),
            "shard_size": shard_size,
            "flip": flip,
            **about_clips,
            **about_windows,
            **about_texts,
        },
        class_names=source.class_names or (),
    )
    with exclusive(Path(folder)):
        remove_temporaries(Path(folder))  # of a run that was killed
        return _tokenize(
            source, tokenizer, TokenShardWriter(folder, header), batch_size, shard_size, num_workers, num_levels, flip, clip_length, texts, progress
        )


def _tokenize(
    source: Source,
    tokenizer: Tokenizer[Any],
    writer: TokenShardWriter,
    batch_size: int,
    shard_size: int,
    num_workers: int,
    num_levels: int | None,
    flip: bool,
    clip_length: int | None,
    texts: TextsConfig | None,
    progress: Callable[[int, int], None],
) -> TokenizedSet:
    header = writer.header
    ranges = {number: range(first, min(first + shard_size, len(source))) for number, first in enumerate(range(0, len(source), shard_size))}
    check_alike(header, [Shard.read(writer.path(number)) for number in ranges if writer.path(number).exists()])
    missing = {number: samples for number, samples in ranges.items() if not writer.path(number).exists()}
    done = len(source) - sum(len(samples) for samples in missing.values())
    progress(done, len(source))

    at_once = batch_size if tokenizer.preprocessing.spec.modality == "image" else 1  # sounds and clips may be long
    plan = [samples[start : start + at_once] for samples in missing.values() for start in range(0, len(samples), at_once)]
    reader = _Reader(source, tokenizer.preprocessing, plan, flip, clip_length, None if texts is None else Texts(texts, source.class_names))
    batch_class: Any = Latents if tokenizer.layout.is_continuous else Tokens
    reads = prefetch(reader.read, range(len(plan)), num_workers=num_workers)
    most_positions = math.inf if tokenizer.preprocessing.fixed_size else batch_size * _POSITIONS
    for number, samples in missing.items():
        own = islice(reads, math.ceil(len(samples) / at_once))
        told, parts = [], []
        for read, tokens in _encode(tokenizer, _batches(own, batch_size, most_positions), num_levels):
            told.append(read)
            if tokens is not None:
                parts.append(tokens)
            done += read.done
            progress(done, len(source))
        shard = _Read.joined(told)
        writer.write(
            number,
            batch_class.cat(parts) if parts else batch_class.from_samples([], header.layout),
            keys=shard.keys,
            labels=shard.labels,
            captions=shard.captions,
            notes={"skipped": [asdict(skip) for skip in shard.skipped]},
        )
    return _finish(source, writer, len(ranges))


def _texts_config(tokenizer: Tokenizer[Any], source: Source, given: TextsConfig | None, *, name: str) -> TextsConfig | None:
    """Where the encoder's texts come from; None if it reads none."""
    if tokenizer.encoder_reads_text:
        return given or texts_of(source, name=name)
    if given is not None:
        raise ConfigError(f"the encoder of {name} reads no text; omit the text")
    return None


@dataclass(frozen=True)
class _Read:
    """Some samples as they were read: signals (C, *axes), and what was skipped. Arrays, not tensors, since those would pass between processes through
    shared memory, of which containers have little. Texts are those that the encoder reads; none where it reads none."""

    signals: list[np.ndarray]
    keys: list[str]
    labels: list[int | None]
    captions: list[str | None]
    texts: list[str]
    skipped: list[Skip]
    done: int

    @classmethod
    def joined(cls, parts: Sequence[_Read]) -> _Read:
        """All of them, in order."""
        signals, keys, labels, captions, texts, skipped = (
            [value for part in parts for value in getattr(part, field)] for field in ("signals", "keys", "labels", "captions", "texts", "skipped")
        )
        return cls(signals, keys, labels, captions, texts, skipped, sum(part.done for part in parts))

    def apart(self) -> list[_Read]:
        """Its signals one by one, the last with all that is done and skipped; itself where there are none."""
        parts = [
            _Read([signal], [key], [label], [caption], self.texts[row : row + 1], [], done=0)
            for row, (signal, key, label, caption) in enumerate(zip(self.signals, self.keys, self.labels, self.captions, strict=True))
        ]
        return [*parts[:-1], replace(parts[-1], skipped=self.skipped, done=self.done)] if parts else [self]

    def without_signals(self) -> _Read:
        """What remains to be told once they are encoded."""
        return replace(self, signals=[], texts=[])

    def refused(self, reason: str) -> _Read:
        """What remains of one signal that the network does not take."""
        return _Read([], [], [], [], [], [*self.skipped, Skip(self.keys[0], reason)], self.done)


class _Reader:
    """Reads and preprocesses what a plan reads at once, by index."""

    def __init__(
        self, source: Source, preprocessing: Preprocessing, plan: Sequence[range], flip: bool, clip_length: int | None, texts: Texts | None
    ) -> None:
        self._source, self._preprocessing, self._plan, self._texts = source, preprocessing, plan, texts
        self._flip, self._clip_length = flip, clip_length

    def read(self, number: int) -> _Read:
        read = _Read([], [], [], [], [], [], done=len(self._plan[number]))
        for index in self._plan[number]:
            try:
                sample = self._source.read(index)
                text = None if self._texts is None else self._texts.of_sample(sample)
                values = self._values(sample.signal)
            except UNUSABLE as error:
                read.skipped.append(Skip(self._source.key(index), str(error)))
                continue
            for suffix, stored in self._stored(values):
                read.signals.append(stored)
                read.keys.append(sample.key + suffix)
                read.labels.append(sample.label)
                read.captions.append(sample.caption)
                if text is not None:
                    read.texts.append(text)
        return read

    def _stored(self, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """What is encoded of a signal (C, *axes), and what that is called behind the key of the signal."""
        length = self._clip_length
        parts = [("", values)]
        if length is not None:
            parts = [(f"#{number}", values[:, start : start + length]) for number, start in enumerate(range(0, values.shape[1], length))]
        for suffix, part in parts:
            yield suffix, part
            if self._flip:
                yield f"{suffix}#flipped", part[..., ::-1]

    def _values(self, signal: SignalLike) -> np.ndarray:
        """(C, *axes): uint8 for images and clips from files, which have 8 bits per channel and keep them when they are resized; else float32."""
        (values,) = self._preprocessing([signal])
        if isinstance(signal, Image.Image | Clip) and self._preprocessing.spec.is_rgb:
            return (values * 255).round().byte().numpy()
        return values.numpy()


def _batches(reads: Iterator[_Read], batch_size: int, most_positions: float) -> Iterator[_Read]:
    """Signals in turn, as many at a time as make a batch: neither long ones together nor one among short ones, which makes padding of them."""
    held: list[_Read] = []
    count, largest = 0, np.zeros(0, dtype=np.int64)
    for read in reads:
        for part in read.apart():
            size = np.array(part.signals[0].shape[1:] if part.signals else largest)
            grown = np.maximum(largest, size) if count else size
            if count and (count == batch_size or (count + 1) * int(grown.prod()) > most_positions):
                yield _Read.joined(held)
                held, count, grown = [], 0, size
            held.append(part)
            count, largest = count + len(part.signals), grown
    if held:
        yield _Read.joined(held)


def _encode(tokenizer: Tokenizer[Any], batches: Iterator[_Read], num_levels: int | None) -> Iterator[tuple[_Read, Tokens | Latents | None]]:
    """Encode with one batch of prefetch: on a GPU the tokens are fetched only when the next batch is under way. None for a batch without a signal."""
    pending: tuple[_Read, Tokens | Latents | None] | None = None
    for read in batches:
        launched = _encoded(tokenizer, read, num_levels)
        if pending is not None:
            yield _fetched(*pending)
        pending = launched
    if pending is not None:
        yield _fetched(*pending)


def _encoded(tokenizer: Tokenizer[Any], read: _Read, num_levels: int | None) -> tuple[_Read, Tokens | Latents | None]:
    """The tokens of a batch, and what remains to be told of it; signals that the network does not take are skipped."""
    if not read.signals:
        return read, None
    try:
        return read.without_signals(), _tokens(tokenizer, read, num_levels)
    except SignalError as error:
        if len(read.signals) == 1:
            return read.refused(str(error)), None
    each = [_encoded(tokenizer, part, num_levels) for part in read.apart()]
    parts = [tokens for _, tokens in each if tokens is not None]
    return _Read.joined([own for own, _ in each]), type(parts[0]).cat(parts) if parts else None  # type: ignore[arg-type]


def _fetched(read: _Read, tokens: Tokens | Latents | None) -> tuple[_Read, Tokens | Latents | None]:
    return read, None if tokens is None else tokens.to("cpu")


def _tokens(tokenizer: Tokenizer[Any], read: _Read, num_levels: int | None) -> Tokens | Latents:
    text = read.texts if tokenizer.encoder_reads_text else None
    values = [torch.from_numpy(np.ascontiguousarray(values)) for values in read.signals]
    if any(signal.dtype != torch.uint8 for signal in values):
        signals = SignalBatch.stack([_unit_range(signal) for signal in values])
    else:  # a quarter of the bytes to move
        signals = SignalBatch.stack(values).to(tokenizer.device)
        signals = SignalBatch(_unit_range(signals.values), signals.sizes)
    return tokenizer.encode(signals, num_levels=num_levels, text=text)


def _unit_range(values: Tensor) -> Tensor:
    """8-bit values as floats in [0, 1]; others as they are."""
    return values.to(torch.float32) / 255 if values.dtype == torch.uint8 else values


def _finish(source: Source, writer: TokenShardWriter, count: int) -> TokenizedSet:
    notes = [Shard.read(writer.path(number)).notes for number in range(count)]
    skipped = (*source.skipped, *(Skip(**skip) for note in notes for skip in note["skipped"]))
    if len(source) == sum(len(note["skipped"]) for note in notes):
        first = skipped[len(source.skipped)].reason if len(source) else "there is none"
        raise DataError(f"none of {len(source)} samples could be read; the first: {first}")
    with replacing(writer.folder / SKIPPED) as temporary:
        temporary.write_text(json.dumps([asdict(skip) for skip in skipped], indent=1), encoding="utf-8")
    return TokenizedSet(writer.finish(skipped=len(skipped)), skipped)
