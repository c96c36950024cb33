"""Sound from files of many formats, at other rates, with other channels, and back into files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from visiontok.base.errors import SignalError
from visiontok.signals import AudioPreprocessing
from visiontok.signals.audio_conversion import mixed, resampled
from visiontok.signals.audio_reading import read_audio
from visiontok.signals.audio_writing import save_audio

soundfile = pytest.importorskip("soundfile")
av = pytest.importorskip("av")

RATE = 16000


def tones(seconds: float = 0.5, *, rate: int = RATE, frequencies: tuple[float, ...] = (440.0,)) -> np.ndarray:
    """(C, T), a tone per channel."""
    time = np.arange(int(seconds * rate)) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * frequency * time) for frequency in frequencies]).astype(np.float32)


def encoded(samples: np.ndarray, container: str, codec: str, *, rate: int = RATE, layout: str = "mono") -> bytes:
    """The bytes of a file that PyAV writes."""
    file = BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.layout = layout
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=stream.codec_context.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return file.getvalue()


def written(samples: np.ndarray, *, format: str = "WAV", subtype: str = "FLOAT", rate: int = RATE) -> bytes:
    file = BytesIO()
    soundfile.write(file, samples.T, rate, format=format, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(
    ("format", "subtype", "bits"),
    [("WAV", "PCM_U8", 8), ("WAV", "PCM_16", 16), ("WAV", "PCM_24", 24), ("WAV", "PCM_32", 32), ("WAV", "FLOAT", 32), ("WAV", "DOUBLE", 32),
     ("FLAC", "PCM_16", 16), ("FLAC", "PCM_24", 24), ("AIFF", "PCM_16", 16)],
)  # fmt: skip
def test_lossless_files_hold_the_samples(format: str, subtype: str, bits: int) -> None:
    samples = tones(frequencies=(440.0, 660.0))
    sound = read_audio(written(samples, format=format, subtype=subtype))
    assert sound.rate == RATE
    np.testing.assert_allclose(sound.samples, samples, atol=2.0 ** (2 - min(bits, 24)))


@pytest.mark.parametrize(("container", "codec"), [("mp3", "libmp3lame"), ("ogg", "libvorbis"), ("mp4", "aac"), ("flac", "flac")])
def test_compressed_files_hold_nearly_the_samples(container: str, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    samples = tones()
    sound = read_audio(encoded(samples, container, codec))
    assert sound.rate == RATE
    assert abs(sound.samples.shape[1] - samples.shape[1]) <= 1152
    spectrum = np.abs(np.fft.rfft(sound.samples[0, 2000:6000] * np.hanning(4000)))
    assert spectrum.argmax() * RATE / 4000 == pytest.approx(440, abs=8)
    assert np.abs(sound.samples[0, 2000:6000]).max() == pytest.approx(0.5, abs=0.05)


def test_files_become_what_a_model_takes(tmp_path: Path) -> None:
    preprocessing = AudioPreprocessing(sample_rate=8000)
    (tmp_path / "a b ü.wav").write_bytes(written(tones(frequencies=(440.0, 440.0))))
    expected = resampled(tones(), RATE, 8000)
    inputs = [
        tmp_path / "a b ü.wav",
        (tmp_path / "a b ü.wav").as_uri().replace("%20", " ").replace("%C3%BC", "ü"),
        (tmp_path / "a b ü.wav").read_bytes(),
        {"array": tones()[0], "sampling_rate": RATE},
        {"array": (tones()[0] * 32768).astype(np.int16), "sampling_rate": RATE},
        {"bytes": None, "path": str(tmp_path / "a b ü.wav")},
    ]
    batch = preprocessing(inputs)
    assert batch.values.shape == (len(inputs), 1, 4000)
    for row in batch.values:
        np.testing.assert_allclose(row.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("rate", "new_rate"), [(192000, 16000), (44100, 24000), (8000, 48000)])
def test_resampling_keeps_tones_and_loudness(rate: int, new_rate: int) -> None:
    samples = resampled(tones(1.0, rate=rate), rate, new_rate)
    assert samples.shape == (1, new_rate)
    expected, inner = tones(1.0, rate=new_rate), slice(new_rate // 10, -new_rate // 10)
    np.testing.assert_allclose(samples[:, inner], expected[:, inner], atol=1e-4)


def test_mixing() -> None:
    left, right, center, effects, back_left, back_right = np.eye(6, dtype=np.float32)
    surround = np.eye(6, dtype=np.float32)
    half = 0.5**0.5
    stereo = mixed(surround, 2)
    np.testing.assert_allclose(stereo[0], (left + half * center + half * back_left) / (1 + 2 * half), rtol=1e-6)
    np.testing.assert_allclose(stereo[1], (right + half * center + half * back_right) / (1 + 2 * half), rtol=1e-6)
    assert not (stereo @ effects).any()
    np.testing.assert_allclose(mixed(surround, 1)[0], stereo.mean(axis=0), rtol=1e-6)
    vorbis = mixed(surround, 2, names=("FL", "FC", "FR", "BL", "BR", "LFE"))
    np.testing.assert_allclose(vorbis[0], np.array([1, half, 0, half, 0, 0]) / (1 + 2 * half), rtol=1e-6)
    np.testing.assert_allclose(mixed(np.array([[1.0, 0.0], [0.0, 0.5]], dtype=np.float32), 1), [[0.5, 0.25]])
    np.testing.assert_array_equal(mixed(left[None], 2), np.stack([left, left]))
    with pytest.raises(SignalError, match="7"):
        mixed(np.zeros((7, 3), dtype=np.float32), 2)


WAV = written(tones())


@pytest.mark.parametrize(
    "damaged",
    [b"", WAV[:20], WAV[:1000], b"RIFF" + bytes(100), b"no sound at all", written(tones(), format="FLAC", subtype="PCM_16")[:3000],
     written(np.zeros((1, 0), dtype=np.float32)), written(np.full((1, 9), np.nan, dtype=np.float32))],
    ids=["empty", "header", "truncated", "zeros", "text", "truncated flac", "no samples", "NaN"],
)  # fmt: skip
def test_damaged_files_are_named(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(damaged)
    with pytest.raises(SignalError, match=r"broken\.wav"):
        AudioPreprocessing(sample_rate=RATE)(path)


def test_a_stream_of_unknown_length_is_read_to_its_end() -> None:
    start = WAV.index(b"data") + 4
    for length in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
        stream = WAV[:start] + length + WAV[start + 4 :]
        np.testing.assert_allclose(read_audio(stream).samples, tones(), atol=1e-6)


@pytest.mark.parametrize("name", ["absent.wav", "folder"])
def test_what_is_no_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SignalError, match=name):
        read_audio(tmp_path / name)


def test_loud_units_are_refused_and_slight_overs_are_clipped(tmp_path: Path) -> None:
    preprocessing = AudioPreprocessing(sample_rate=RATE)
    with pytest.raises(SignalError, match="20000"):
        preprocessing({"array": np.full(50, 20000.0), "sampling_rate": RATE})
    assert float(preprocessing({"array": np.full(50, 1.2), "sampling_rate": RATE}).values.max()) == 1.0


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_clipping_is_counted_on_writing(tmp_path: Path, suffix: str) -> None:
    sound = torch.from_numpy(tones(frequencies=(440.0, 660.0)))
    path = tmp_path / f"sound{suffix}"
    assert save_audio(sound, path, rate=RATE) == 0
    np.testing.assert_allclose(read_audio(path).samples, sound.numpy(), atol=2**-14)
    sound[0, :3] = torch.tensor([1.0, 1.5, -2.0])
    assert save_audio(sound, path, rate=RATE) == 3
    with pytest.raises(SignalError, match="mp7"):
        save_audio(sound, tmp_path / "a.mp7", rate=RATE)
