"""Reading clips: the frames of any file that PyAV reads, upright and with square pixels, as a stream or whole, or an error that names the file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image
from typing_extensions import Self

from visiontok.base.errors import DependencyError, SignalError
from visiontok.base.optional import import_optional
from visiontok.signals.image_reading import MAX_PIXELS, read_image
from visiontok.signals.opening import opened
from visiontok.signals.video_frames import Frame, FrameSampling, Orientation, deinterlaced, resampled, rgb

MAX_BYTES = 2**31
"""The most decoded frames that `read_clip` keeps, at 24 bits per pixel: 11 seconds of 1920 x 1080 at 30 frames per second."""

MAX_PAUSE = 3600
"""Seconds; a longer pause between two frames is a damaged timestamp."""

ALL = FrameSampling()
"""Every frame as the file holds it."""

_READS_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # decoders beside FFmpeg's own, which do not
_ATTACHED_PICTURE = 1024  # of the dispositions of a stream: the cover of a recording
_FACTUAL = ("mp4", "matroska", "avi")  # containers whose length is a fact, not an estimate
_MISSING = 0.5  # seconds that a header may announce beyond the last frame
_USUAL_RATE = Fraction(25)  # where the file says none


@dataclass(frozen=True)
class Clip:
    """A decoded clip.

    Attributes:
        frames: (T, H, W, 3) uint8.
        rate: frames per second; the mean where they are not evenly spaced.
    """

    frames: np.ndarray
    rate: float


def read_clip(source: str | Path | bytes, *, name: str | None = None, sampling: FrameSampling = ALL) -> Clip:
    """Read a file whole; see `VideoFile` for what it may be, and for a file that is too large for memory.

    Raises:
        SignalError: as `VideoFile` does, and if the frames are larger than `MAX_BYTES`.
        DependencyError: without the extra `audio`.
    """
    with VideoFile(source, name=name) as video:
        frames, size = [], 0
        for frame in video.frames(sampling):
            frames.append(frame)
            size += frame.pixels.nbytes
            if size > MAX_BYTES:
                raise SignalError(
                    f"{video.name} has more than {MAX_BYTES / 2**30:.0f} GiB of frames, which is the most that is kept: take fewer by fps= or frames="
                )
        return Clip(np.stack([frame.pixels for frame in frames]), mean_rate(frames[0], frames[-1], len(frames)))


def mean_rate(first: Frame, last: Frame, count: int) -> float:
    """Frames per second of `count` frames from the first to the last."""
    seconds = last.time + last.duration - first.time
    return float(count / seconds) if seconds else float(_USUAL_RATE)


class VideoFile:
    """An open file, as a context manager.

    Its frames are shown upright, turned and mirrored as the file says, and with square pixels, by a change of the width. Interlaced frames are
    deinterlaced. Any depth, gray and alpha become 8-bit RGB. Images are clips of one frame; animated ones are clips.

    Args:
        source: a path, an address that fsspec opens ("https://...", "s3://..."), or the bytes of a file.
        name: what errors call it.

    Attributes:
        name: what errors call it.
        has_sound: whether it holds sound, too.

    Raises:
        SignalError: if there is no such file, or it is empty, of no known format, or holds no frames but the cover of a recording.
        DependencyError: without the extra `audio`.
    """

    def __init__(self, source: str | Path | bytes, *, name: str | None = None) -> None:
        self.name = name or (f"the clip of {len(source)} bytes" if isinstance(source, bytes) else str(source))
        self._problem: str | None = None
        with ExitStack() as stack:
            file = BytesIO(source) if isinstance(source, bytes) else stack.enter_context(opened(str(source), name=self.name))
            if not file.read(1):
                raise SignalError(f"{self.name} is empty (0 bytes)")
            file.seek(0)
            self._container = stack.enter_context(self._parsed(file))
            self._stream = self._moving_stream()
            self._image = None
            if self._container.format.name.endswith("_pipe"):  # an image, which knows its own colors
                file.seek(0)
                self._image = file.read()
            self._open = stack.pop_all()
        self.has_sound = bool(self._container.streams.audio)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def frames(self, sampling: FrameSampling = ALL) -> Iterator[Frame]:
        """The frames, in turn; once.

        What cannot be decoded is omitted, and a truncated file ends early: a warning at the end says so, with the file's name.

        Raises:
            SignalError: if there is none, their size changes or exceeds `MAX_PIXELS`, or one comes more than `MAX_PAUSE` after another.
        """
        found = self._shown_frames() if self._image is None else self._image_frames(self._image)
        if sampling.fps is not None:
            found = resampled(found, Fraction(sampling.fps).limit_denominator(10**6))
        count = 0
        for frame in found:
            yield frame
            count += 1
            if count == sampling.frames:
                break
        if not count:
            raise SignalError(f"{self.name} holds no frame that can be decoded" + (f": {self._problem}" if self._problem else ""))
        if self._problem:
            warnings.warn(f"{self.name} is used without what cannot be read of it: {self._problem}", stacklevel=2)

    def _parsed(self, file: Any) -> Any:
        try:
            return import_optional("av", extra="audio").open(file, "r")
        except DependencyError:
            raise
        except Exception as error:  # a parser can raise anything on damaged bytes
            raise SignalError(f"{self.name} is not a video of a known format, or it is truncated or corrupt: {_in_words(error)}") from error

    def _moving_stream(self) -> Any:
        streams = self._container.streams
        found = [stream for stream in streams.video if not stream.disposition & _ATTACHED_PICTURE]
        if not found:
            raise SignalError(f"{self.name} holds {'only a cover' if streams.video else 'only sound' if streams.audio else 'no frames'}, no video")
        return found[0]

    def _image_frames(self, data: bytes) -> Iterator[Frame]:
        """Of an image, as Pillow reads it: one, and all of an animated WebP, which PyAV does not decode."""
        still, time = read_image(data, name=self.name), Fraction(0)
        image = Image.open(BytesIO(data))
        count = getattr(image, "n_frames", 1) if image.format == "WEBP" else 1
        for number in range(count):
            duration = Fraction(image.info.get("duration", 0), 1000) or 1 / _USUAL_RATE
            yield Frame(np.asarray(still), time, duration)
            if number + 1 < count:
                try:
                    image.seek(number + 1)
                    still, time = read_image(image.copy(), name=self.name), time + duration
                except Exception as error:  # a decoder can raise anything on damaged bytes
                    self._problem = f"it breaks off after {number + 1} of {count} frames: {error}"
                    return

    def _shown_frames(self) -> Iterator[Frame]:
        decoded = self._decoded()
        first = next(decoded, None)
        if first is None:
            return
        size, shown, orientation = (first.width, first.height), self._square(first), Orientation.of(first)
        step = 1 / (self._stream.average_rate or self._stream.guessed_rate or _USUAL_RATE)
        start = last = None
        for number, frame in enumerate(deinterlaced(chain([first], decoded), self._stream)):
            if (frame.width, frame.height) != size:
                raise SignalError(
                    f"{self.name} changes from {size[0]} x {size[1]} to {frame.width} x {frame.height} pixels at frame {number}: split it"
                )
            expected = Fraction(0) if last is None else last.time + last.duration
            time = frame.pts * frame.time_base if frame.pts is not None and frame.time_base else expected
            if last is not None:
                time = max(time, last.time)
                if time - last.time > MAX_PAUSE:
                    raise SignalError(
                        f"{self.name} pauses for {float(time - last.time):.0f} seconds before frame {number}: its timestamps are damaged"
                    )
            last = Frame(orientation.upright(rgb(frame, shown)), time, frame.duration * frame.time_base if frame.duration else step)
            start = time if start is None else start
            yield last
        if start is not None and last is not None:
            self._check_length(last.time + last.duration - start)

    def _decoded(self) -> Iterator[Any]:
        """Frames as the decoder gives them, packet by packet: an error does not take those that came before it."""
        damaged = count = 0
        packets, decode = self._container.demux(self._stream), self._decoder()
        while True:
            try:
                packet = next(packets, None)
            except Exception as error:  # a parser can raise anything on damaged bytes
                self._problem = f"it breaks off after frame {count}: {_in_words(error)}"
                return
            if packet is None:
                return
            try:
                frames = decode(packet)
            except Exception:
                frames, damaged = [], damaged + 1
            damaged += sum(frame.is_corrupt for frame in frames)
            count += len(frames)
            if damaged:
                self._problem = f"{damaged} of its frames {'are' if damaged > 1 else 'is'} damaged"
            yield from frames

    def _decoder(self) -> Callable[[Any], list[Any]]:
        """Packets in turn, the last one empty -> the frames that they complete; with their alpha, where the file says that there is one."""
        av, context = import_optional("av", extra="audio"), self._stream.codec_context
        codec = None if context is None else context.name  # None where a damaged file names no codec
        if self._stream.metadata.get("alpha_mode") != "1" or codec not in _READS_ALPHA:
            return lambda packet: list(packet.decode())
        try:
            decoder = av.CodecContext.create(_READS_ALPHA[codec], "r")
        except av.codec.codec.UnknownCodecError:
            self._problem = f"its transparency: this FFmpeg has no decoder {_READS_ALPHA[codec]}"
            return lambda packet: list(packet.decode())
        decoder.thread_count = 1  # see `video_frames.rgb`
        return lambda packet: list(decoder.decode(packet if packet.size else None))

    def _square(self, frame: Any) -> tuple[int, int]:
        """Width and height of a decoded frame when its pixels are square.

        Raises:
            SignalError: if it is too large.
        """
        ratio = self._stream.sample_aspect_ratio or Fraction(1)
        width, height = max(1, round(frame.width * ratio)), frame.height
        if width * height > MAX_PIXELS:
            raise SignalError(f"{self.name} has {width} x {height} pixels, more than the {MAX_PIXELS} that are decoded: make it smaller first")
        return width, height

    def _check_length(self, seconds: Fraction) -> None:
        """Note where the header announces more than came."""
        announced = self._stream.duration * self._stream.time_base if self._stream.duration and self._stream.time_base else None
        if announced is None and len(self._container.streams) == 1 and self._container.duration:
            announced = Fraction(self._container.duration, 10**6)
        factual = any(name in self._container.format.name for name in _FACTUAL)
        if factual and announced is not None and announced - seconds > _MISSING:
            self._problem = f"it is truncated: it holds {float(seconds):.1f} of {float(announced):.1f} seconds"


def _in_words(error: Exception) -> str:
    """Without the number and the name that FFmpeg gives to a file that is given open."""
    return str(getattr(error, "strerror", None) or error)
