"""Images, and sources of images and arrays."""

from __future__ import annotations

import io
import tarfile
import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from PIL import Image, features
from video_files import frames, turned, video

from fuzzing.entry import Entry, Files
from visiontok.base.errors import DataError
from visiontok.base.printable import printable
from visiontok.data import EvalLoader, Source, open_source
from visiontok.data.arrays import ArraysConfig
from visiontok.data.folder import FolderConfig
from visiontok.data.parquet import ParquetConfig
from visiontok.data.webdataset import WebDatasetConfig
from visiontok.signals import AudioPreprocessing, ImagePreprocessing, Preprocessing, VideoPreprocessing
from visiontok.signals.audio_reading import read_audio
from visiontok.signals.image_reading import read_image
from visiontok.signals.video_frames import FrameSampling
from visiontok.signals.video_reading import read_clip

IMAGES = (".png", ".jpg", ".jpeg", ".webp")


def encoded(seed: int = 0, kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (12, 8), **options: object) -> bytes:
    """The file of an image of noise."""
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    if mode == "I;16":
        image = Image.fromarray(random.integers(0, 2**16, (size[1], size[0]), dtype=np.uint16))
    elif mode != "RGB":
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- single images -------------------------------------------------------------------------------------------------------------------------------


def _images() -> list[Files]:
    exif = Image.Exif()
    exif[0x0112] = 6
    pages = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    animation = io.BytesIO()
    pages[0].save(animation, "GIF", save_all=True, append_images=pages[1:])
    found = [
        encoded(),
        encoded(mode="RGBA"),
        encoded(mode="I;16"),
        encoded(mode="P"),
        encoded(mode="1"),
        encoded(kind="JPEG"),
        encoded(kind="JPEG", progressive=True, exif=exif.tobytes()),
        encoded(kind="JPEG", mode="CMYK"),
        encoded(kind="TIFF"),
        encoded(kind="TIFF", mode="I;16", compression="tiff_lzw"),
        encoded(kind="BMP"),
        encoded(kind="PPM"),
        encoded(kind="GIF"),
        animation.getvalue(),
        encoded(kind="MPO"),
    ]
    found += [encoded(kind=kind) for name, kind in (("webp", "WEBP"), ("avif", "AVIF")) if features.check(name)]
    found += [encoded(kind="JPEG2000")] if features.check("jpg_2000") else []
    return [{"x.img": data} for data in found]


def _read_image(folder: Path) -> None:
    image = read_image(folder / "x.img")
    assert image.mode == "RGB", image.mode
    assert min(image.size) >= 2, image.size
    pixels = ImagePreprocessing(size=8)([image]).values
    assert pixels.shape == (1, 3, 8, 8)
    assert 0 <= float(pixels.min()) <= float(pixels.max()) <= 1


# --- single sounds -------------------------------------------------------------------------------------------------------------------------------


def _sounds() -> list[Files]:
    random = np.random.default_rng(0)
    samples = random.uniform(-0.9, 0.9, (400, 2)).astype(np.float32)
    found = []
    for kind, subtype in (
        ("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAVEX", "PCM_32"), ("RF64", "PCM_16"),
        ("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("AU", "PCM_16"), ("CAF", "ALAC_16"),
    ):  # fmt: skip
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, 8000, format=kind, subtype=subtype)
        found.append(buffer.getvalue())
    many = io.BytesIO()
    soundfile.write(many, random.uniform(-0.9, 0.9, (40, 60)), 8000, format="AU", subtype="PCM_16")
    found.append(many.getvalue())
    found += [muxed(samples, *container) for container in (("mp4", "aac"), ("matroska", "flac"), ("adts", "aac"), ("ogg", "libopus"))]
    return [{"x.sound": data} for data in found]


def muxed(samples: np.ndarray, container: str, codec: str, *, rate: int = 48000) -> bytes:
    """The bytes of a file that PyAV writes of stereo sound (T, 2)."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout="stereo")
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.format, layout="stereo", rate=rate, frame_size=stream.codec_context.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def _read_sound(folder: Path) -> None:
    path = folder / "x.sound"
    sound = read_audio(path)
    assert sound.samples.dtype == np.float32, sound.samples.dtype
    assert sound.samples.ndim == 2, sound.samples.shape
    assert min(sound.samples.shape) > 0, sound.samples.shape
    assert sound.rate > 0, sound.rate
    assert np.isfinite(sound.samples).all()
    assert sound.channels is None or len(sound.channels) == len(sound.samples), sound.channels
    values = AudioPreprocessing(sample_rate=16000)([path]).values
    assert values.shape[:2] == (1, 1), values.shape
    assert values.shape[2] > 0, values.shape
    assert -1 <= float(values.min()) <= float(values.max()) <= 1


# --- single clips --------------------------------------------------------------------------------------------------------------------------------


def _clips() -> list[Files]:
    clip = frames(4, height=16, width=24)
    found = [
        video(clip),
        turned(video(clip), 0, 1, -1, 0),
        video(clip, muxer={"movflags": "frag_keyframe+empty_moov"}),
        video(clip, aspect=Fraction(4, 3), times=[0, 0.1, 0.5, 0.6]),
        video(clip, pixels="yuv420p10le", options={"x264-params": "interlaced=1:tff=1"}),
        video(clip, "matroska", sound=np.zeros((1, 800), dtype=np.float32)),
        video(clip, "mpegts", "mpeg2video", rate=25),
        video(clip, "avi", "mjpeg", pixels="yuvj420p"),
        video(np.concatenate([clip, clip[..., :1]], axis=3), "matroska", "ffv1", pixels="yuva444p"),
        video(clip, "gif", "gif", pixels="rgb8"),
        video(clip, "apng", "apng", pixels="rgb24"),
        encoded(),
    ]
    if features.check("webp"):
        animated = io.BytesIO()
        first, *rest = [Image.fromarray(frame) for frame in clip]
        first.save(animated, "WEBP", save_all=True, append_images=rest, duration=100)
        found.append(animated.getvalue())
    return [{"x.video": data} for data in found]


def _read_clip(folder: Path) -> None:
    path = folder / "x.video"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is used without what cannot be read of it
        clip = read_clip(path)
        even = read_clip(path, sampling=FrameSampling(fps=10, frames=50))
        values = VideoPreprocessing(frames=ImagePreprocessing(size=8))([path]).values
    assert clip.frames.dtype == np.uint8
    assert clip.frames.ndim == 4
    assert clip.frames.shape[3] == 3
    assert min(clip.frames.shape) > 0, clip.frames.shape
    assert 0 < clip.rate < float("inf"), clip.rate
    assert 1 <= len(even.frames) <= 50
    assert values.shape == (1, 3, len(clip.frames), 8, 8), values.shape
    assert 0 <= float(values.min()) <= float(values.max()) <= 1


# --- sources -------------------------------------------------------------------------------------------------------------------------------------


def check_source(source: Source, preprocessing: Preprocessing) -> tuple[list[str], list[str]]:
    """Go through a source: the keys that were used, and the keys and reasons of what was skipped."""
    keys = [source.key(index) for index in range(len(source))]
    assert len(set(keys)) == len(keys), f"keys repeat: {keys}"
    assert "\n".join([source.identity, *keys]).encode()
    skips = [skip.key for skip in source.skipped]
    assert len(set(skips)) == len(skips), f"skipped entries of one name count once: {skips}"
    loader = EvalLoader(source, preprocessing=preprocessing, batch_size=4)
    used: list[str] = []
    try:
        for batch in loader:
            used += batch.keys
            assert batch.labels is None or int(batch.labels.min()) >= 0, batch.labels
            assert bool(batch.signals.values.isfinite().all())
    except DataError:
        if used:
            raise
        return [], [f"{skip.key} {skip.reason}" for skip in loader.report.kept]
    assert used == [key for key in keys if key in set(used)], "another order"
    assert len(used) + len(loader.report) == len(source) + len(source.skipped), f"{len(used)} used, {len(loader.report)} skipped of {len(source)}"
    reported = [f"{skip.key} {skip.reason}" for skip in loader.report.kept]
    assert "\n".join([str(loader.report), *reported]).encode()
    return used, reported


def _folders() -> list[Files]:
    flat: Files = {f"{seed}.png": encoded(seed) for seed in range(3)}
    classes: Files = {name: encoded(seed) for seed, name in enumerate(("cat/1.png", "cat/old/2.jpg", "dog/1.png", "dog/2.PNG"))}
    return [flat, classes, {**flat, "notes.txt": b"x", ".hidden.png": encoded(), "bad.jpg": b"junk"}]


def _read_folder(folder: Path) -> None:
    source = open_source(FolderConfig(path=str(folder)))
    used, _ = check_source(source, ImagePreprocessing(size=8))
    visible = [path for path in folder.rglob("*") if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    images = [path for path in visible if path.suffix.lower() in IMAGES and not path.is_dir()]
    assert len(source) + len(source.skipped) >= len(images), f"{len(images)} images, {len(source)} samples"
    assert len(used) <= len(images)


def tar(members: Sequence[tuple[str, bytes | str]]) -> bytes:
    """A shard of files, given as bytes, and hard links, given as the name that they lead to."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.LNKTYPE, data
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _shards() -> list[Files]:
    first = tar(
        [
            ("a.png", encoded(0)),
            ("a.cls", b"1"),
            ("a.txt", b"one"),
            ("dir/b.jpg", encoded(1, "JPEG")),
            ("dir/b.json", b'{"label": 3, "caption": "two", "x": {"y": [1, 2]}}'),
            ("c.png", "a.png"),
            ("c.cls", "a.cls"),
        ]
    )
    second = tar([("a.png", encoded(2)), ("b.png", encoded(3)), ("a.cls", b"2"), ("b.cls", b"5\n"), ("x.1.png", encoded(4)), ("README", b"x")])
    pax = io.BytesIO()
    with tarfile.open(fileobj=pax, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("ä" * 120 + ".png", "b.png"):
            info = tarfile.TarInfo(name)
            info.size = len(encoded())
            archive.addfile(info, io.BytesIO(encoded()))
    return [{"0.tar": first}, {"a/0.tar": first, "b/0.tar": second}, {"0.tar": second, "1.tar": pax.getvalue()}]


def _read_shards(folder: Path) -> None:
    source = open_source(WebDatasetConfig(path=f"{folder}/**/*.tar"))
    used, skipped = check_source(source, ImagePreprocessing(size=8))
    assert all(source.read(index).key == source.key(index) for index in range(len(source)) if source.key(index) in used)
    if len(skipped) >= 20 or any("damaged" in reason or "truncated" in reason for reason in skipped):
        return
    for shard in folder.rglob("*.tar"):
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                name = printable(member.name)
                stem = name.rpartition("/")[2].partition(".")[0]
                seen = any(stem in key for key in used) or any(stem in reason for reason in skipped)
                assert member.isdir() or seen, f"{name} is neither used nor named"


def _parquets() -> list[Files]:
    structs = [{"bytes": encoded(seed), "path": f"{seed}.png"} for seed in range(5)]
    first = pa.table({"image": structs, "label": [0, 1, -1, None, 4], "text": ["a", "b", None, "d", "e"]})
    second = pa.table({"image": [encoded(seed) for seed in range(3)], "caption": ["x", "y", "z"]})
    classes = b'{"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}'
    third = pa.table({"image": structs[:2], "label": [1, 0]}).replace_schema_metadata({"huggingface": classes})
    return [
        {"0.parquet": _parquet(first, 2)},
        {"0.parquet": _parquet(second, 10)},
        {"a.parquet": _parquet(third, 1), "b.parquet": _parquet(third, 1)},
    ]


def _parquet(table: pa.Table, row_group_size: int) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=row_group_size)
    return buffer.getvalue()


def _read_parquet(folder: Path) -> None:
    source = open_source(ParquetConfig(path=str(folder)))
    check_source(source, ImagePreprocessing(size=8))
    assert source.class_names is None or all(isinstance(name, str) for name in source.class_names)


def _archives() -> list[Files]:
    random = np.random.default_rng(0)
    arrays = {
        "signals": random.uniform(-1, 1, (4, 2, 16)).astype(np.float32),
        "sizes": np.array([[4], [8], [12], [16]]),
        "labels": np.array([1, 0, -1, 1]),
        "captions": np.array(list("abcd")),
        "keys": np.array(list("wxyz")),
        "class_names": np.array(["dog", "bird"]),
    }
    return [{"x.npz": _npz(arrays)}, {"x.npz": _npz({"signals": arrays["signals"]})}]


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _read_archive(folder: Path) -> None:
    check_source(open_source(ArraysConfig(path=str(folder / "x.npz"), modality="audio", rate=100)), AudioPreprocessing(sample_rate=100, channels=2))


def _array_folders() -> list[Files]:
    random = np.random.default_rng(0)
    found: Files = {}
    for number in range(3):
        buffer = io.BytesIO()
        np.save(buffer, random.uniform(-1, 1, (2, 8 + number)).astype(np.float32))
        found[f"{number}.npy"] = buffer.getvalue()
    return [found, {f"{'ab'[number % 2]}/{name}": data for number, (name, data) in enumerate(found.items())}]


def _read_array_folder(folder: Path) -> None:
    check_source(open_source(ArraysConfig(path=str(folder), modality="audio")), AudioPreprocessing(sample_rate=100, channels=2))


ENTRIES = (
    Entry("image", _images, _read_image, cases=60),
    Entry("sound", _sounds, _read_sound, cases=60),
    Entry("video", _clips, _read_clip, cases=60),
    Entry("image-folder", _folders, _read_folder, cases=100),
    Entry("tar-shards", _shards, _read_shards, cases=200),
    Entry("image-parquet", _parquets, _read_parquet, cases=200),
    Entry("array-archive", _archives, _read_archive, cases=200),
    Entry("array-folder", _array_folders, _read_array_folder, cases=100),
)
