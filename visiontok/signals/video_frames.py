"""Frames of clips: what a decoder gives as it is shown, and which of them are taken."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from visiontok.base.config import Config, Positive
from visiontok.base.optional import import_optional

_ROUNDING = Fraction(1, 1000)  # seconds by which containers round their timestamps


class FrameSampling(Config):
    """Which frames of a file are taken.

    Attributes:
        fps: frames per second. Every moment shows the last frame that has come by then, so that frames are repeated or omitted; None for the frames
            that the file holds, however far apart they are.
        frames: the first so many of them; None for all.
    """

    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    frames: Positive | None = None


@dataclass(frozen=True)
class Frame:
    """One frame as it is shown.

    Attributes:
        pixels: (H, W, 3) uint8.
        time: in seconds, as the file counts them; not below that of the frame before.
        duration: in seconds.
    """

    pixels: np.ndarray
    time: Fraction
    duration: Fraction


def resampled(frames: Iterable[Frame], fps: Fraction) -> Iterator[Frame]:
    """Frames at even times, of which the first is that of the first frame: the k-th is the last one that has come k / fps seconds later."""
    shown, start, count = None, Fraction(0), 0

    def until(end: Fraction, frame: Frame) -> Iterator[Frame]:
        nonlocal count
        due = math.ceil((end - start - _ROUNDING) * fps)
        while count < due:
            yield Frame(frame.pixels, start + count / fps, 1 / fps)
            count += 1

    for frame in frames:
        if shown is None:
            start = frame.time
        else:
            yield from until(frame.time, shown)
        shown = frame
    if shown is not None:
        yield from until(max(shown.time + shown.duration, start + 2 * _ROUNDING), shown)


@dataclass(frozen=True)
class Orientation:
    """How decoded frames are turned to be upright: transposed first, then mirrored.

    Attributes:
        transposed: whether rows and columns change places.
        mirrored: whether left and right do, afterwards.
        upside_down: whether top and bottom do.
    """

    transposed: bool = False
    mirrored: bool = False
    upside_down: bool = False

    @classmethod
    def of(cls, frame: Any) -> Orientation:
        """By the display matrix of a frame of PyAV: a decoded point (x, y) is shown at (a x + c y, b x + d y). Angles between quarter turns count as
        the nearest."""
        data = frame.side_data.get("DISPLAYMATRIX")
        if data is None or len(bytes(data)) != 36:
            return cls()
        a, b, _, c, d, *_ = np.frombuffer(bytes(data), dtype="=i4").tolist()
        return cls(True, c < 0, b < 0) if abs(b) > abs(a) else cls(False, a < 0, d < 0)

    def upright(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, 3) or (W, H, 3) -> (H, W, 3)."""
        turned = pixels.transpose(1, 0, 2) if self.transposed else pixels
        rows, columns = (slice(None, None, -1 if reverse else None) for reverse in (self.upside_down, self.mirrored))
        return np.ascontiguousarray(turned[rows, columns])


def rgb(frame: Any, size: tuple[int, int]) -> np.ndarray:
    """A decoded frame of PyAV, of any depth and color format, as (H, W, 3) uint8 of a size (W, H); what is transparent is laid on white."""
    # Frames lie in reference cycles. One with threads of its own that is collected in a forked process, such as a worker of a loader, never ends.
    resized = {"width": size[0], "height": size[1], "interpolation": "BICUBIC", "threads": 1}
    layout = frame.format
    if not layout.has_palette and not any(component.is_alpha for component in layout.components):
        return np.asarray(frame.to_ndarray(format="rgb24", **resized))
    values = frame.to_ndarray(format="rgba", **resized).astype(np.float32)
    alpha = values[..., 3:] / 255
    return np.asarray(np.rint(values[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8))


def deinterlaced(frames: Iterable[Any], stream: Any) -> Iterator[Any]:
    """Decoded frames of a stream of PyAV; of those that are interlaced, both fields become one frame (filter bwdif)."""
    graph = None
    for frame in frames:
        if graph is None:
            if not frame.interlaced_frame:
                yield frame
                continue
            graph = _deinterlacer(frame, stream)
        graph.push(frame)
        yield from _filtered(graph)
    if graph is not None:
        graph.push(None)
        yield from _filtered(graph)


def _deinterlacer(frame: Any, stream: Any) -> Any:
    graph = import_optional("av", extra="audio").filter.Graph()
    graph.threads = 1  # see `rgb`
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=stream.time_base)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")).configure()
    return graph


def _filtered(graph: Any) -> Iterator[Any]:
    av = import_optional("av", extra="audio")
    while True:
        try:
            yield graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
