"""Small video files of every kind, made by PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO

import av
import numpy as np

WIDTH, HEIGHT = 64, 48
SOUND_RATE = 16000

_TICKS = 1000  # per second, of frames with times


def frames(count: int = 5, *, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(T, H, W, 3): smooth, with a red corner at the top left and a green one at the top right, and a blue square that moves 4 pixels a frame."""
    rows, columns = np.mgrid[0:height, 0:width]
    clip = np.repeat(np.stack([0 * rows + 90, 100 + 60 * rows // height, 100 + 60 * columns // width], axis=-1)[None], count, axis=0)
    clip[:, : height // 4, : width // 4] = (200, 40, 40)
    clip[:, : height // 4, -(width // 4) :] = (40, 180, 40)
    for number, frame in enumerate(clip):
        left = (4 * number) % (width - 12)
        frame[height // 2 : height // 2 + 12, left : left + 12] = (40, 40, 200)
    return clip.astype(np.uint8)


def tone(seconds: float, frequency: float = 440.0) -> np.ndarray:
    """(1, T) float32 at `SOUND_RATE`."""
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE))[None].astype(np.float32)


def video(
    clip: np.ndarray | Sequence[np.ndarray],
    container: str = "mp4",
    codec: str = "libx264",
    *,
    pixels: str = "yuv420p",
    rate: int = 10,
    times: Sequence[float] | None = None,
    sound: np.ndarray | None = None,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
) -> bytes:
    """The bytes of a file.

    Args:
        clip: frames (H, W, 3) uint8, or (H, W, 4) with alpha.
        times: of the frames, in seconds; None for even ones at the rate.
        sound: (1, T) at `SOUND_RATE`.
        aspect: width of a pixel over its height.
        options, muxer: of FFmpeg's encoder and container.
    """
    buffer = BytesIO()
    with av.open(buffer, "w", format=container, options=muxer or {}) as output:
        stream = output.add_stream(codec, rate=rate, options={"crf": "8", **(options or {})} if codec == "libx264" else options or {})
        stream.height, stream.width, stream.pix_fmt = clip[0].shape[0], clip[0].shape[1], pixels
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if times is not None:
            stream.codec_context.time_base = Fraction(1, _TICKS)
        track = None if sound is None else output.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for number, values in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), format="rgba" if values.shape[2] == 4 else "rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * _TICKS), Fraction(1, _TICKS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if track is not None:
            samples = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
            samples.sample_rate = SOUND_RATE
            output.mux(track.encode(samples))
            output.mux(track.encode(None))
    return buffer.getvalue()


def turned(mp4: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """An mp4 whose frames are shown by the matrix (a, b; c, d), of -1, 0 and 1: a point (x, y) at (a x + c y, b x + d y)."""
    matrix = np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30], dtype=">i4").tobytes()
    start = mp4.index(b"tkhd") + 4 + 40
    return mp4[:start] + matrix + mp4[start + len(matrix) :]
