"""Writing clips as mp4, in H.264 where PyAV has it, with the sound of another file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import pad

from visiontok.base.errors import SignalError
from visiontok.base.files import replacing
from visiontok.base.optional import import_optional
from visiontok.signals.opening import opened

_TICKS = 90_000  # per second, and more where the frame rate needs them
_CODECS = {"libx264": {"crf": "12", "preset": "fast"}, "mpeg4": {"flags": "+qscale", "global_quality": "236"}}  # 118 times the quantizer scale
_BT709, _LIMITED = 1, 1  # as FFmpeg numbers color spaces, and the range of luma from 16 to 235
_SOUND_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # those of AAC that players know


def save_video(clip: Tensor, path: str | Path, *, rate: float) -> None:
    """Write a clip (3, T, H, W) in [0, 1] as mp4; the file gets its name when it is whole.

    Raises:
        SignalError: as `VideoWriter.write` does.
        OSError: if the file cannot be written.
        DependencyError: without the extra `audio`.
    """
    with writing_video(path, rate=rate) as writer:
        writer.write(clip)


def encode_video(clip: Tensor, *, rate: float) -> bytes:
    """A clip (3, T, H, W) in [0, 1] as the bytes of an mp4 that browsers play; odd sides get one more row or column, equal to the last.

    Raises:
        SignalError: as `VideoWriter.write` does.
        DependencyError: without the extra `audio`.
    """
    buffer = BytesIO()
    with writing_video(buffer, rate=rate) as writer:
        writer.write(with_even_sides(clip))
    return buffer.getvalue()


def with_even_sides(clip: Tensor) -> Tensor:
    """A clip (C, T, H, W) in which odd sides have one more row or column, equal to the last."""
    return pad(clip, (0, clip.shape[3] % 2, 0, clip.shape[2] % 2), mode="replicate")


@contextmanager
def writing_video(
    target: str | Path | BytesIO, *, rate: float, sound: str | Path | None = None, start: Fraction = Fraction(0)
) -> Iterator[VideoWriter]:
    """A writer for the block, at whose end the file gets its name, if there was no error.

    Args:
        target: a path, or a buffer.
        rate: frames per second, where frames come without times.
        sound: a file whose sound is written too, as AAC, as long as the clip; nothing where it holds none.
        start: the second of that file at which the clip begins.

    Raises:
        SignalError: if no frame was written, or there is no file with the sound.
        OSError: if the file cannot be written.
        DependencyError: without the extra `audio`.
    """
    av = import_optional("av", extra="audio")
    with ExitStack() as stack:
        file = target if isinstance(target, BytesIO) else str(stack.enter_context(replacing(target)).absolute())
        options = {} if isinstance(target, BytesIO) else {"movflags": "faststart"}
        source = None if sound is None else stack.enter_context(av.open(stack.enter_context(opened(str(sound), name=str(sound))), "r"))
        container = stack.enter_context(av.open(file, "w", format="mp4", options=options))
        writer = VideoWriter(container, rate=rate, sound=source, start=start)
        yield writer
        writer.finish()


class VideoWriter:
    """What `writing_video` gives.

    Colors have half the resolution of luma (4:2:0), as all players read them, unless a side is odd (4:4:4).

    Args:
        container: of PyAV, open for writing.
        rate: frames per second, where frames come without times.
        sound: a container of PyAV, open for reading.
        start: the second of it at which the clip begins.
    """

    def __init__(self, container: Any, *, rate: float, sound: Any = None, start: Fraction = Fraction(0)) -> None:
        self._av = import_optional("av", extra="audio")
        self._container = container
        self._step = 1 / Fraction(rate).limit_denominator(10**6)
        self._sound = None if sound is None or not sound.streams.audio else _SoundTrack(sound, container, start)
        self._stream: Any = None
        self._end = Fraction(0)
        ticks = math.lcm(_TICKS, self._step.denominator)
        self._clock = Fraction(1, ticks if ticks < 2**31 else _TICKS)
        self._ticks = -1

    def write(self, frames: Tensor, times: Sequence[Fraction] | None = None) -> None:
        """Add frames.

        Args:
            frames: (3, T, H, W) in [0, 1], of the size of all others; values beyond the range are clipped.
            times: when each is shown, in seconds since the clip began, rising; None for one after the other at the rate.

        Raises:
            SignalError: if they have another shape.
        """
        stream = self._stream
        if frames.ndim != 4 or frames.shape[0] != 3 or (stream is not None and (stream.height, stream.width) != tuple(frames.shape[2:])):
            raise SignalError(f"expected frames (3, T, H, W) of one size to write, got shape {tuple(frames.shape)}")
        if stream is None:
            self._stream = self._new_stream(*frames.shape[2:])
        pixels = (frames.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 3, 0).cpu().numpy()
        for number, values in enumerate(pixels):
            time = self._end if times is None else times[number]
            if self._sound is not None:
                self._sound.write_until(time)
            self._container.mux(self._stream.encode(self._frame(values, time)))
            self._end = time + self._step

    def finish(self) -> None:
        """Write what the encoders hold back.

        Raises:
            SignalError: if no frame was written.
        """
        if self._stream is None:
            raise SignalError("no frame was given to write")
        self._container.mux(self._stream.encode(None))
        if self._sound is not None:
            self._sound.write_until(self._end)
            self._sound.finish()

    def _new_stream(self, height: int, width: int) -> Any:
        codec = next(name for name in _CODECS if name in self._av.codecs_available)
        stream = self._container.add_stream(codec, rate=1 / self._step, options=_CODECS[codec])
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if codec != "mpeg4" and (height % 2 or width % 2) else "yuv420p"
        context = stream.codec_context
        context.time_base = self._clock
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        return stream

    def _frame(self, pixels: np.ndarray, time: Fraction) -> Any:
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(format=self._stream.pix_fmt, dst_colorspace="ITU709", interpolation="BICUBIC", threads=1)
        self._ticks = max(self._ticks + 1, round(time / self._clock))
        frame.pts, frame.time_base = self._ticks, self._clock
        return frame


class _SoundTrack:
    """The sound of a file, mixed to stereo where it has more channels, encoded as far as the frames have come.

    Args:
        source: container with sound, open for reading.
        target: container that is written.
        start: the second of the source that is the start of the target.
    """

    def __init__(self, source: Any, target: Any, start: Fraction) -> None:
        found = source.streams.audio[0]
        rate = next((rate for rate in _SOUND_RATES if rate >= found.rate), _SOUND_RATES[-1])
        self._target, self._start = target, start
        self._stream = target.add_stream("aac", rate=rate, layout="mono" if found.channels == 1 else "stereo")
        self._frames = source.decode(found)
        self._next = self._decoded()

    def write_until(self, end: Fraction) -> None:
        """Everything before that second of the clip."""
        while self._next is not None and (time := self._next.pts * self._next.time_base - self._start) < end:
            if time >= 0:
                self._next.pts = round(time / self._next.time_base)
                self._target.mux(self._stream.encode(self._next))
            self._next = self._decoded()

    def finish(self) -> None:
        """Write what the encoder holds back."""
        self._target.mux(self._stream.encode(None))

    def _decoded(self) -> Any:
        """The next frame that has a time; None at the end, and where the sound is damaged, so that the clip is written without the rest."""
        try:
            return next((frame for frame in self._frames if frame.pts is not None), None)
        except Exception:  # a decoder can raise anything on damaged bytes
            return None
