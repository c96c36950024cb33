"""Clips from files of many kinds, whole and damaged, and back into files."""

from __future__ import annotations

import gc
import multiprocessing
import os
import warnings
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from video_files import HEIGHT, SOUND_RATE, WIDTH, frames, tone, turned, video

from visiontok.base.errors import SignalError
from visiontok.signals import ImagePreprocessing, VideoPreprocessing
from visiontok.signals.audio_reading import read_audio
from visiontok.signals.video_frames import FrameSampling
from visiontok.signals.video_reading import VideoFile, read_clip
from visiontok.signals.video_writing import encode_video, save_video, writing_video

CLIP = frames()
TIMES = [0.0, 0.1, 0.35, 0.4, 0.9]


def close(found: np.ndarray, expected: np.ndarray, error: float = 4.0) -> bool:
    """Whether frames are alike but for what compression changes: mean and 99th percentile of the error, since colors blur at edges."""
    off = np.abs(found.astype(float) - expected)
    return bool(found.shape == expected.shape and off.mean() < error and np.quantile(off, 0.9) < 4 * error)


def tensor(clip: np.ndarray) -> torch.Tensor:
    """(3, T, H, W) in [0, 1]."""
    return torch.from_numpy(clip).permute(3, 0, 1, 2).float() / 255


KINDS: dict[str, Callable[[], bytes]] = {
    "h264": lambda: video(CLIP),
    "10 bits": lambda: video(CLIP, pixels="yuv420p10le"),
    "4:2:2": lambda: video(CLIP, pixels="yuv422p"),
    "matroska": lambda: video(CLIP, "matroska"),
    "webm": lambda: video(CLIP, "webm", "libvpx-vp9", options={"crf": "10", "b": "0"}),
    "transport stream": lambda: video(CLIP, "mpegts"),
    "avi": lambda: video(CLIP, "avi", "mpeg4", options={"flags": "+qscale", "global_quality": "236"}),
    "motion jpeg": lambda: video(CLIP, "avi", "mjpeg", pixels="yuvj420p"),
    "ffv1": lambda: video(CLIP, "matroska", "ffv1", pixels="bgr0"),
    "gif": lambda: video(CLIP, "gif", "gif", pixels="rgb8"),
    "apng": lambda: video(CLIP, "apng", "apng", pixels="rgb24"),
    "interlaced": lambda: video(CLIP, options={"x264-params": "interlaced=1:tff=1"}),
    "interlaced mpeg2": lambda: video(CLIP, "mpegts", "mpeg2video", rate=25, options={"flags": "+ildct+ilme+qscale", "global_quality": "236"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_every_kind_hold_the_frames(kind: str) -> None:
    clip = read_clip(KINDS[kind]())
    assert clip.frames.dtype == np.uint8
    assert close(clip.frames, CLIP, error=24 if kind == "gif" else 8 if "interlaced" in kind else 4), np.abs(clip.frames.astype(float) - CLIP).mean()
    assert clip.rate == pytest.approx(25 if kind == "interlaced mpeg2" else 10, rel=0.01)


def test_gray_and_transparent_frames_become_rgb() -> None:
    gray = read_clip(video(np.repeat(CLIP[..., :1], 3, axis=3), "matroska", "ffv1", pixels="gray"))
    assert np.ptp(gray.frames.astype(int), axis=3).max() == 0
    half = np.concatenate([CLIP, np.full_like(CLIP[..., :1], 255)], axis=3)
    half[:, :, WIDTH // 2 :, 3] = 0
    clear = read_clip(video(half, "matroska", "ffv1", pixels="yuva444p")).frames
    assert close(clear[:, :, : WIDTH // 2 - 1], CLIP[:, :, : WIDTH // 2 - 1])
    assert clear[:, :, WIDTH // 2 + 1 :].min() >= 254


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_webm_keeps_its_transparency(codec: str) -> None:
    """Which FFmpeg's own decoders of VP8 and VP9 omit."""
    half = np.concatenate([frames(4), np.full((4, HEIGHT, WIDTH, 1), 255, np.uint8)], axis=-1)
    half[:, :, : WIDTH // 2, 3] = 0
    clip = read_clip(video(half, "webm", codec, pixels="yuva420p", options={"auto-alt-ref": "0", "lag-in-frames": "0"}))
    assert clip.frames.shape == (4, HEIGHT, WIDTH, 3)
    assert clip.rate == pytest.approx(10)
    assert (clip.frames[:, :, : WIDTH // 2 - 8] == 255).all()
    assert np.abs(clip.frames[:, :, WIDTH // 2 + 8 :].astype(int) - half[:, :, WIDTH // 2 + 8 :, :3]).mean() < 8


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), lambda clip: clip),
        ((0, 1, -1, 0), lambda clip: np.rot90(clip, -1, axes=(1, 2))),
        ((-1, 0, 0, -1), lambda clip: clip[:, ::-1, ::-1]),
        ((0, -1, 1, 0), lambda clip: np.rot90(clip, axes=(1, 2))),
        ((-1, 0, 0, 1), lambda clip: clip[:, :, ::-1]),
        ((1, 0, 0, -1), lambda clip: clip[:, ::-1]),
        ((0, 1, 1, 0), lambda clip: clip.transpose(0, 2, 1, 3)),
        ((0, -1, -1, 0), lambda clip: np.rot90(clip, 2, axes=(1, 2)).transpose(0, 2, 1, 3)),
    ],
)
def test_frames_are_turned_and_mirrored_as_the_file_says(matrix: tuple[int, int, int, int], shown: Callable[[np.ndarray], np.ndarray]) -> None:
    assert close(read_clip(turned(video(CLIP), *matrix)).frames, shown(CLIP))


def test_pixels_become_square() -> None:
    wide = read_clip(video(CLIP, aspect=Fraction(2, 1))).frames
    assert wide.shape == (5, HEIGHT, 2 * WIDTH, 3)
    assert close(wide, CLIP.repeat(2, axis=2), error=6)
    assert read_clip(video(CLIP, aspect=Fraction(16, 15))).frames.shape == (5, HEIGHT, round(WIDTH * 16 / 15), 3)
    tall = turned(video(CLIP, aspect=Fraction(2, 1)), 0, 1, -1, 0)
    assert read_clip(tall).frames.shape == (5, 2 * WIDTH, HEIGHT, 3)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_uneven_frames_are_kept_or_resampled_by_their_times(container: str) -> None:
    data = video(CLIP, container, times=TIMES)
    with VideoFile(data) as file:
        times = [float(frame.time) for frame in file.frames()]
    np.testing.assert_allclose(np.subtract(times, times[0]), TIMES, atol=2e-3)
    even = read_clip(data, sampling=FrameSampling(fps=10))
    assert even.rate == 10
    assert close(even.frames[:10], CLIP[[0, 1, 1, 1, 3, 3, 3, 3, 3, 4]])


@pytest.mark.parametrize(("fps", "expected"), [(10, range(12)), (5, range(0, 12, 2)), (20, np.repeat(range(12), 2)), (4, [0, 2, 5, 7, 10])])
@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_even_frames_are_repeated_and_omitted(container: str, fps: float, expected: object) -> None:
    clip = frames(12)
    assert close(read_clip(video(clip, container), sampling=FrameSampling(fps=fps)).frames, clip[np.array(expected)])


def test_a_rate_that_containers_round_keeps_every_frame() -> None:
    clip = frames(12)
    for rate in (30, 24, 60):
        assert close(read_clip(video(clip, "matroska", rate=rate), sampling=FrameSampling(fps=rate)).frames, clip)


def test_the_first_frames_are_taken() -> None:
    assert close(read_clip(video(CLIP), sampling=FrameSampling(frames=3)).frames, CLIP[:3])
    assert len(read_clip(video(CLIP), sampling=FrameSampling(frames=99)).frames) == len(CLIP)
    assert close(read_clip(video(CLIP), sampling=FrameSampling(fps=5, frames=2)).frames, CLIP[[0, 2]])


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_an_image_is_a_clip_of_one_frame(suffix: str) -> None:
    buffer = BytesIO()
    Image.fromarray(CLIP[0]).save(buffer, suffix)
    assert close(read_clip(buffer.getvalue()).frames, CLIP[:1], error=8)
    assert len(read_clip(video(CLIP[:1])).frames) == 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_animated_images_are_clips(kind: str) -> None:
    buffer = BytesIO()
    first, *rest = [Image.fromarray(frame) for frame in CLIP]
    first.save(buffer, kind, save_all=True, append_images=rest, duration=[100, 200, 300, 100, 100])
    clip = read_clip(buffer.getvalue(), sampling=FrameSampling(fps=10))
    assert close(clip.frames, CLIP[[0, 1, 1, 2, 2, 2, 3, 4]], error=20)


# What is damaged, or no video.

FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}


def test_a_truncated_file_keeps_what_was_read(tmp_path: Path) -> None:
    clip = frames(40)
    for container, muxer in (("matroska", None), ("mp4", FRAGMENTS)):
        data = video(clip, container, options={"g": "5"}, muxer=muxer)
        path = tmp_path / f"cut.{container}"
        path.write_bytes(data[: len(data) // 2])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = read_clip(path)
        assert 5 <= len(found.frames) < 40
        assert close(found.frames[:5], clip[:5], error=6)
        if container != "mp4":  # fragments do not say how many follow
            assert any(path.name in str(each.message) for each in caught)
    save_video(tensor(clip), tmp_path / "whole.mp4", rate=10)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) * 3 // 4])
    with pytest.warns(UserWarning, match=r"half\.mp4 .*(truncated|damaged|breaks)"):
        assert 1 <= len(read_clip(tmp_path / "half.mp4").frames) < 40


def test_frames_before_and_behind_damaged_ones_are_used(tmp_path: Path) -> None:
    clip = frames(30)
    data = bytearray(video(clip, "matroska", "libx264", options={"g": "10", "bf": "0"}))
    middle = len(data) // 2
    data[middle : middle + 300] = np.random.default_rng(0).bytes(300)
    (tmp_path / "hit.mkv").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = read_clip(tmp_path / "hit.mkv")
    assert close(found.frames[:10], clip[:10])


COVER = BytesIO()
with av.open(COVER, "w", format="mp3") as _output:
    _track = _output.add_stream("mp3", rate=SOUND_RATE, layout="mono")
    _sound = av.AudioFrame.from_ndarray(tone(1.0), format="fltp", layout="mono")
    _sound.sample_rate = SOUND_RATE
    _output.mux([*_track.encode(_sound), *_track.encode(None)])


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "empty"),
        (b"no video at all" * 40, "known format"),
        (video(CLIP)[:600], "known format"),
        (COVER.getvalue(), "only sound"),
        (video(CLIP, "mpegts") + video(frames(height=32, width=48), "mpegts"), "64 x 48 to 48 x 32 pixels at frame 5"),
        (video(CLIP, muxer=FRAGMENTS).partition(b"moof")[0], "no frame|known format"),
    ],
    ids=["empty", "text", "without index", "sound", "resolution", "no frames"],
)
def test_what_is_no_clip_is_named(tmp_path: Path, data: bytes, named: str) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(data)
    with pytest.raises(SignalError, match=rf"broken\.mp4.*({named})"):
        read_clip(path)


def test_names_that_are_no_files_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for name in ("pipe.mp4", "folder.mp4", "absent.mp4"):
        with pytest.raises(SignalError, match=name):
            read_clip(tmp_path / name)


def test_names_with_colons_and_other_letters_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a:b.mp4", "file:x.mp4", "ü 动画.mp4", "%d.mp4"):
        save_video(tensor(CLIP), name, rate=10)
        assert close(read_clip(name).frames, CLIP)
    assert close(VideoPreprocessing(frames=ImagePreprocessing())(f"file://{tmp_path}/a:b.mp4").values[0].permute(1, 2, 3, 0).numpy() * 255, CLIP)


def test_a_frame_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visiontok.signals.video_reading.MAX_PIXELS", 100)
    with pytest.raises(SignalError, match="64 x 48"):
        read_clip(video(CLIP))


def test_a_clip_that_is_too_large_for_memory_is_read_as_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visiontok.signals.video_reading.MAX_BYTES", 3 * CLIP[0].nbytes)
    with pytest.raises(SignalError, match="frames"):
        read_clip(video(CLIP))
    with VideoFile(video(CLIP)) as file:
        assert sum(1 for _ in file.frames()) == len(CLIP)


# To a model.


def test_files_become_what_a_model_takes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(video(CLIP))
    Image.fromarray(CLIP[0]).save(tmp_path / "a.png")
    inputs = [tmp_path / "a.mp4", str(tmp_path / "a.mp4"), video(CLIP), read_clip(video(CLIP)), CLIP, tensor(CLIP), tmp_path / "a.png", CLIP[0]]
    inputs.append(Image.fromarray(CLIP[0]))
    batch = VideoPreprocessing(frames=ImagePreprocessing(multiple_of=4))(inputs)
    assert batch.sizes.tolist() == [[5, HEIGHT, WIDTH]] * 6 + [[1, HEIGHT, WIDTH]] * 3
    for clip in batch:
        assert close(clip.permute(1, 2, 3, 0).numpy() * 255, CLIP[: clip.shape[1]])
    square = VideoPreprocessing(frames=ImagePreprocessing(size=32))
    assert square(inputs).sizes.tolist() == [[5, 32, 32]] * 6 + [[1, 32, 32]] * 3
    assert torch.equal(square(CLIP).values[0, :, 0], ImagePreprocessing(size=32)(CLIP[0]).values[0])


@pytest.mark.parametrize("count", [17, 18, 33])
def test_frames_of_files_keep_the_size_that_tensors_keep(count: int) -> None:
    preprocessing = VideoPreprocessing(frames=ImagePreprocessing(size=32, tensors_keep_size=True, multiple_of=8), frames_multiple_of=4)
    clip = frames(count, height=46, width=70)
    assert preprocessing([video(clip), clip]).sizes.tolist() == [[count, 46, 70]] * 2


def test_a_number_of_frames_that_the_network_does_not_take_is_refused_with_the_nearest() -> None:
    at_most = VideoPreprocessing(frames=ImagePreprocessing(size=32), max_frames=4)
    exact = VideoPreprocessing(frames=ImagePreprocessing(size=32), num_frames=6, fixed_length=True)
    for clip in (CLIP, video(CLIP), tensor(CLIP), tensor(CLIP)[None]):
        with pytest.raises(SignalError, match=r"5 frames.* 6 frames"):
            exact(clip)
        with pytest.raises(SignalError, match=r"5 frames.* at most 4"):
            at_most.pad(at_most(clip).values)
    assert at_most.pad(at_most(CLIP[:3]).values).shape[2] == 3


# Writing.


@pytest.mark.parametrize(("count", "height", "width"), [(1, 48, 64), (17, 49, 63), (5, 2, 2), (3, 47, 64)])
def test_what_is_written_has_the_same_frames_and_sides(tmp_path: Path, count: int, height: int, width: int) -> None:
    clip = frames(count, height=height, width=width) if height > 2 else np.full((count, height, width, 3), 120, dtype=np.uint8)
    save_video(tensor(clip), tmp_path / "a.mp4", rate=12.5)
    found = read_clip(tmp_path / "a.mp4")
    assert close(found.frames, clip)
    assert found.rate == pytest.approx(12.5)


@pytest.mark.parametrize("rate", [8, 24000 / 1001, 23.976, 25, 30000 / 1001, 60])
def test_rates_are_kept(rate: float) -> None:
    assert read_clip(encode_video(tensor(CLIP), rate=rate)).rate == pytest.approx(rate, rel=1e-6)


def test_browsers_can_play_what_is_encoded() -> None:
    data = encode_video(tensor(frames(5, height=49, width=63)), rate=8)
    with av.open(BytesIO(data)) as file:
        context = file.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 64, 50)


def test_colors_are_kept() -> None:
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [128, 128, 128]], dtype=np.uint8)
    clip = np.repeat(np.repeat(colors[None], 16, axis=0), 16, axis=1).reshape(1, 16, 96, 3).repeat(2, axis=0)
    found = read_clip(encode_video(tensor(clip), rate=8)).frames[:, :, 4::16][:, :, :6].astype(int)
    assert np.abs(found - clip[:, :, 4::16]).max() <= 4


def test_times_are_kept() -> None:
    buffer = BytesIO()
    with writing_video(buffer, rate=10) as writer:
        writer.write(tensor(CLIP[:2]), [Fraction(0), Fraction(1, 10)])
        writer.write(tensor(CLIP[2:]), [Fraction(time).limit_denominator(1000) for time in TIMES[2:]])
    with VideoFile(buffer.getvalue()) as file:
        np.testing.assert_allclose([float(frame.time) for frame in file.frames()], TIMES, atol=1e-3)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_sound_is_written_beside_the_frames_as_long_as_they_last(tmp_path: Path, container: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(video(frames(20), container, sound=tone(2.0)))
    with VideoFile(source) as file:
        assert file.has_sound
    for count in (20, 10):
        with writing_video(tmp_path / "out.mp4", rate=10, sound=source) as writer:
            writer.write(tensor(frames(count)))
        sound = read_audio(tmp_path / "out.mp4")
        assert sound.samples.shape[1] / sound.rate == pytest.approx(count / 10, abs=0.13)
        middle = sound.samples[0, 4000:12000] * np.hanning(8000)
        assert np.abs(np.fft.rfft(middle)).argmax() * SOUND_RATE / 8000 == pytest.approx(440, abs=5)
        assert len(read_clip(tmp_path / "out.mp4").frames) == count
    with writing_video(tmp_path / "late.mp4", rate=10, sound=source, start=Fraction(3, 2)) as writer:
        writer.write(tensor(frames(20)))
    late = read_audio(tmp_path / "late.mp4")
    assert late.samples.shape[1] / late.rate == pytest.approx(0.5, abs=0.13)


def test_a_clip_without_sound_gets_none(tmp_path: Path) -> None:
    (tmp_path / "mute.mp4").write_bytes(video(CLIP))
    with writing_video(tmp_path / "out.mp4", rate=10, sound=tmp_path / "mute.mp4") as writer:
        writer.write(tensor(CLIP))
    with VideoFile(tmp_path / "out.mp4") as file:
        assert not file.has_sound


def save_video_of(path: Path, chunks: list[np.ndarray]) -> None:
    with writing_video(path, rate=10) as writer:
        for chunk in chunks:
            writer.write(tensor(chunk))


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    with pytest.raises(SignalError, match="48, 32"):
        save_video_of(tmp_path / "a.mp4", [CLIP, frames(height=48, width=32)])
    with pytest.raises(SignalError, match="no frame"):
        save_video_of(tmp_path / "a.mp4", [])
    assert list(tmp_path.iterdir()) == []


def test_a_forked_process_can_free_the_frames_of_its_parent() -> None:
    """As workers of loaders do, whenever their garbage is collected."""
    child = multiprocessing.get_context("fork").Process(target=gc.collect)
    gc.disable()
    try:
        read_clip(video(frames(4, height=64, width=64)))
        child.start()
    finally:
        gc.enable()
    child.join(60)
    child.kill()
    assert child.exitcode == 0
