"""Clips as commands read them: which frames of a file are taken, and long ones that go through a tokenizer in chunks."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiontok.base.errors import ConfigError, TokenError

if TYPE_CHECKING:
    from torch import Tensor

    from visiontok.core.chunks import Chunked
    from visiontok.core.tokenizer import Tokenizer
    from visiontok.signals.video import VideoPreprocessing
    from visiontok.signals.video_frames import Frame
    from visiontok.tokenizers.shared.windowed_clips import WindowedClips
    from visiontok.tokens import Latents, Tokens

FRAME_RATE = "frame_rate"
"""The name among the extras of tokens of the frames per second (B, 1) of the clips that were encoded, at which they are written again."""

_CHUNK = 16  # frames that are read and prepared together
_FASTEST = 1000.0  # frames per second
_ALIKE = 0.02  # relative difference of rates that are not worth a word
_MOST_CHUNKS = 4  # longer clips go through tokenizers that take chunks in chunks

FpsOption = Annotated[
    float | None, typer.Option("--fps", min=0.001, max=1000, help="Take this many frames per second of clips; by default all frames.", metavar="RATE")
]
FramesOption = Annotated[int | None, typer.Option("--frames", min=1, help="Take the first N frames of clips; by default all.", metavar="N")]
ClipLengthOption = Annotated[
    int | None, typer.Option("--clip-length", min=1, help="Cut clips into clips of N frames, each with its own tokens.", metavar="N")
]


SizeOption = Annotated[
    int | None,
    typer.Option("--size", min=1, help="Resize and crop frames of clips to squares of N pixels; by default as the network takes them.", metavar="N"),
]


@dataclass(frozen=True)
class ClipOptions:
    """What the options say.

    Attributes:
        fps, frames: see `FrameSampling`.
        length: frames of the clips that a clip is cut into; None for one clip.
        size: of the squares that frames are resized and cropped to; None for what the tokenizer does by itself.
    """

    fps: float | None = None
    frames: int | None = None
    length: int | None = None
    size: int | None = None

    def apply(self, tokenizer: Tokenizer[Any], name: str) -> None:
        """Have a tokenizer prepare frames in this size.

        Raises:
            ConfigError: if it takes no clips.
            SignalError: if it takes frames of another size only.
        """
        from visiontok.signals.video import VideoPreprocessing

        if self == ClipOptions():
            return
        if not isinstance(tokenizer.preprocessing, VideoPreprocessing):
            kind = tokenizer.preprocessing.spec.modality
            raise ConfigError(f"--fps, --frames, --clip-length and --size are for clips; {name} is for {kind}: omit them")
        if self.size is not None:
            tokenizer.preprocessing = tokenizer.preprocessing.resized(self.size)


@dataclass(frozen=True)
class DecodedPart:
    """Some frames of a clip, and what became of them.

    Attributes:
        original: (3, T, H, W).
        decoded: of the same size, from each number of codebook levels.
        tokens: all levels, of these frames, or of some before and behind them.
        times: of the frames, in seconds since the first of the clip.
    """

    original: Tensor
    decoded: Sequence[Tensor]
    tokens: Sequence[Tokens | Latents]
    times: Sequence[Fraction]


class ClipFile:
    """A clip in an open file, used once.

    Args:
        path: of the file.
        frames: those that are taken.
        tokenizer: of clips.
        options: of which frames these are.

    Attributes:
        start: time of the first frame in the file, once it is read.
    """

    def __init__(self, path: Path, frames: Iterator[Frame], tokenizer: Tokenizer[Any], options: ClipOptions) -> None:
        preprocessing: VideoPreprocessing = tokenizer.preprocessing  # type: ignore[assignment]
        self._path, self._name, self._frames, self._options, self._length = path, str(path), frames, options, options.length
        self._tokenizer, self._preprocessing = tokenizer, preprocessing
        self._times: list[Fraction] = []
        self._first: Frame | None = None
        self._last: Frame | None = None
        self._count = 0
        self.start = Fraction(0)

    @property
    def rate(self) -> float:
        """Frames per second of those that were read so far."""
        from visiontok.signals.video_reading import mean_rate

        assert self._first is not None
        assert self._last is not None
        return mean_rate(self._first, self._last, self._count)

    def encoded(self, *, num_levels: int | None) -> Iterator[tuple[str, Tokens | Latents]]:
        """The tokens of the clip, or of all clips that it is cut into, by name.

        Raises:
            SignalError: if the file cannot be read, or the network takes no clips of this size.
        """
        from visiontok.tokens import join_clips

        for name, clips in groupby(self._clips(), key=itemgetter(0)):
            parts = [self._encoded(clip, more, num_levels) for _, clip, more in clips]
            yield name, with_rate(parts[0] if len(parts) == 1 else join_clips(parts), self.rate)

    def _encoded(self, clip: Tensor, more: Iterator[Tensor] | None, num_levels: int | None) -> Tokens | Latents:
        from visiontok.tokens import join_chunks

        if more is None:
            return self._tokenizer.encode(clip, num_levels=num_levels)
        return join_chunks([*self._chunked.encode_chunks(chain([clip], more), num_levels=num_levels)])

    def reconstructed(self, counts: Sequence[int | None]) -> Iterator[DecodedPart]:
        """The clip in parts, decoded from these numbers of codebook levels; None for all.

        Raises:
            SignalError: as `encoded` does.
        """
        for _, clip, more in self._clips():
            if more is not None:
                yield from self._decoded_chunks([*self._chunked.encode_chunks(chain([clip], more))], counts)
                continue
            tokens = self._tokenizer.encode(clip)
            decoded = [self._tokenizer.decode(tokens, num_levels=count)[0].float() for count in counts]
            yield DecodedPart(self._target(clip)[0], decoded, (tokens,), self._taken(clip.shape[2]))

    def _decoded_chunks(self, encoded: Sequence[Tokens | Latents], counts: Sequence[int | None]) -> Iterator[DecodedPart]:
        """Of a clip whose chunks are all encoded, so that what the encoder kept between them is gone. The file is read again for the frames."""
        import torch

        streams = [self._chunked.decode_chunks([each if count is None else each.levels(count) for each in encoded]) for count in counts]
        tokens: Sequence[Tokens | Latents] = encoded
        with _opened_frames(self._path, self._options) as frames:
            originals = (self._target(chunk)[0] for chunk in self._prepared((frame.pixels for frame in frames), _CHUNK))
            held = next(originals)
            for decoded in zip(*streams, strict=True):
                length = decoded[0].shape[2]
                while held.shape[1] < length:
                    held = torch.cat([held, next(originals)], dim=1)
                yield DecodedPart(held[:, :length], [part[0].float() for part in decoded], tokens, self._taken(length))
                held, tokens = held[:, length:].clone(), ()

    def _clips(self) -> Iterator[tuple[str, Tensor, Iterator[Tensor] | None]]:
        """Name and frames (1, 3, T, H, W) of every clip; of one that is too long to be taken at once, its first frames, and the others in chunks.

        One that the tokenizer takes as several has one name.
        """
        if self._length is not None:
            for number, clip in enumerate(self._read(self._length)):
                count = clip.shape[2]
                if number and count < self._length and self._preprocessing.fixed_length:
                    typer.echo(f"{self._name}: the last {count} frames are no clip of {self._length}, and are omitted", err=True)
                    return
                yield f"{self._name}#{number}", self._checked(clip), None
            return
        windowed = self._windowed
        if windowed is not None:
            for number, clip in enumerate(self._read(int(windowed.window))):
                if number == 1:
                    warnings.warn(f"{self._name}: {windowed.near_in_words()}", stacklevel=1)
                yield self._name, self._checked(clip), None
            return
        chunks = self._read(_CHUNK)
        first = deque(islice(chunks, _MOST_CHUNKS + 1))
        if len(first) > _MOST_CHUNKS and self._takes_chunks:
            yield self._name, first.popleft(), chain((first.popleft() for _ in range(_MOST_CHUNKS)), chunks)
        else:
            yield self._name, self._checked(self._preprocessing.joined(chain(first, chunks), name=self._name)), None

    def _read(self, length: int) -> Iterator[Tensor]:
        def pixels() -> Iterator[Any]:
            for frame in self._frames:
                if self._first is None:
                    self._first, self.start = frame, frame.time
                self._last = frame
                self._count += 1
                self._times.append(frame.time - self.start)
                yield frame.pixels

        return self._prepared(pixels(), length)

    def _prepared(self, pixels: Iterator[Any], length: int) -> Iterator[Tensor]:
        return (clip[None] for clip in self._preprocessing.chunks(pixels, length, name=self._name))

    def _checked(self, clip: Tensor) -> Tensor:
        self._preprocessing.checked_count(clip.shape[2], self._name)
        return self._tokenizer.prepare(clip).values

    def _target(self, clip: Tensor) -> Tensor:
        return self._tokenizer.target_of(self._tokenizer.prepare(clip).values).float()

    def _taken(self, count: int) -> Sequence[Fraction]:
        taken, self._times = self._times[:count], self._times[count:]
        return taken

    @property
    def _windowed(self) -> WindowedClips[Any] | None:
        """The tokenizer, if it takes long clips as several."""
        from visiontok.tokenizers.shared.windowed_clips import WindowedClips

        cuts = isinstance(self._tokenizer, WindowedClips) and self._tokenizer.window < math.inf
        return self._tokenizer if cuts else None  # type: ignore[return-value]

    @property
    def _takes_chunks(self) -> bool:
        from visiontok.core.chunks import Chunked

        return isinstance(self._tokenizer, Chunked)

    @property
    def _chunked(self) -> Chunked[Any]:
        return self._tokenizer  # type: ignore[return-value]


def is_clip(path: Path, tokenizer: Tokenizer[Any]) -> bool:
    """Whether a file is read as a clip."""
    return tokenizer.preprocessing.spec.modality == "video" and path.suffix != ".npy"


@contextmanager
def _opened_frames(path: Path, options: ClipOptions) -> Iterator[Iterator[Frame]]:
    """Those that are taken of a file."""
    from visiontok.signals.video_frames import FrameSampling
    from visiontok.signals.video_reading import VideoFile

    with VideoFile(path) as video:
        yield video.frames(FrameSampling(fps=options.fps, frames=options.frames))


@contextmanager
def opened_clip(path: Path, tokenizer: Tokenizer[Any], options: ClipOptions) -> Iterator[ClipFile]:
    """A video file, open for the block.

    Raises:
        SignalError: if it cannot be read.
    """
    with _opened_frames(path, options) as frames:
        clip = ClipFile(path, frames, tokenizer, options)
        yield clip
        made_for = tokenizer.preprocessing.spec.rate
        if made_for is not None and abs(clip.rate / made_for - 1) > _ALIKE:
            typer.echo(
                f"{path} has {clip.rate:.4g} frames per second; the tokenizer was made for {made_for:g}: --fps {made_for:g} takes as many", err=True
            )


def with_rate(tokens: Tokens | Latents, rate: float) -> Tokens | Latents:
    """Tokens of clips that know at which rate they are written again."""
    import torch

    return tokens.with_data(tokens.data, extras={**tokens.extras, FRAME_RATE: torch.full((len(tokens), 1), rate, dtype=torch.float64)})


def rate_of(tokens: Tokens | Latents, tokenizer: Tokenizer[Any]) -> float:
    """Frames per second of a clip: of those that were encoded, else those that the tokenizer was made for, else `signals.writing.USUAL_RATE`.

    Raises:
        TokenError: if the tokens say what is no rate.
    """
    from visiontok.signals.writing import USUAL_RATE

    known = tokens.extras.get(FRAME_RATE)
    if known is None:
        return tokenizer.spec.rate or USUAL_RATE
    rate = float(known[0, 0]) if known.shape == (1, 1) else 0.0
    if not 0 < rate <= _FASTEST:
        raise TokenError(f"the tokens say that their clip has {known.tolist()} frames per second; expected one number up to {_FASTEST}")
    return rate


def save_clip(tokens: Tokens | Latents, path: Path, tokenizer: Tokenizer[Any], *, rate: float) -> None:
    """Decode a batch of one clip into an mp4; a long one in chunks, where the tokenizer takes them."""
    from visiontok.core.chunks import Chunked
    from visiontok.signals.video_writing import writing_video
    from visiontok.tokens import split_chunks, split_clips

    whole = tokens.with_data(tokens.data, extras={name: value for name, value in tokens.extras.items() if name != FRAME_RATE})
    with writing_video(path, rate=rate) as writer:
        for clip in split_clips(whole):
            if isinstance(tokenizer, Chunked) and clip.layout.signal_shape[0] > _CHUNK * _MOST_CHUNKS:
                for part in tokenizer.decode_chunks(split_chunks(clip, _CHUNK)):
                    writer.write(part[0])
            else:
                writer.write(tokenizer.decode(clip)[0])
