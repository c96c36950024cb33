"""Sound from files of many formats, at other rates, with other channels, and back into files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch

from visiontok.base.errors import SignalError
from visiontok.signals import AudioPreprocessing
from visiontok.signals.audio_conversion import mixed, resampled
from visiontok.signals.audio_reading import read_audio
from visiontok.signals.audio_writing import save_audio

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


def written(samples: np.ndarray, *, format: str = "WAV", subtype: str = "FLOAT", rate: int = RATE, endian: str = "FILE") -> bytes:
    file = BytesIO()
    soundfile.write(file, samples.T, rate, format=format, subtype=subtype, endian=endian)
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


COMPRESSED = {
    "mp3": encoded(tones(), "mp3", "libmp3lame"),
    "ogg": written(tones(), format="OGG", subtype="VORBIS"),
    "m4a": encoded(tones(), "mp4", "aac"),
    "flac": encoded(tones(), "flac", "flac"),
    "aac": encoded(tones(), "adts", "aac"),
}


@pytest.mark.parametrize("kind", COMPRESSED)
def test_compressed_files_hold_nearly_the_samples(kind: str) -> None:
    samples = tones()
    sound = read_audio(COMPRESSED[kind])
    assert sound.rate == RATE
    assert abs(sound.samples.shape[1] - samples.shape[1]) <= 2048
    window = np.hanning(4000)
    spectrum = np.abs(np.fft.rfft(sound.samples[0, 2000:6000] * window))
    assert spectrum.argmax() * RATE / 4000 == pytest.approx(440, abs=8)
    assert 2 * spectrum.max() / window.sum() == pytest.approx(0.5, abs=0.05)  # of the tone itself; encoders add noise of their own


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
    stereo = tones(frequencies=(440.0, 660.0))
    for whole in (WAV, written(stereo)):
        start = whole.index(b"data") + 4
        for length in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
            stream = whole[:start] + length + whole[start + 4 :]
            np.testing.assert_allclose(read_audio(stream).samples, read_audio(whole).samples, atol=1e-6)
            assert AudioPreprocessing(sample_rate=RATE)(stream).values.shape == (1, 1, RATE // 2)
    flac = written(stereo, format="FLAC", subtype="PCM_16")
    stream = flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:]
    np.testing.assert_allclose(read_audio(stream).samples, stereo, atol=2**-14)


def test_the_byte_order_of_a_wav_is_read() -> None:
    samples = tones(frequencies=(440.0, 660.0))
    swapped = written(samples, subtype="PCM_24", endian="BIG")
    assert swapped[:4] == b"RIFX"
    np.testing.assert_allclose(read_audio(swapped).samples, samples, atol=2**-22)


@pytest.mark.parametrize(("format", "subtype"), [("WAV", "GSM610"), ("WAV", "IMA_ADPCM"), ("WAV", "ULAW"), ("AU", "PCM_16"), ("W64", "PCM_16")])
def test_rare_codings_hold_the_sound(format: str, subtype: str) -> None:
    channels = 1 if subtype == "GSM610" else 2
    sound = read_audio(written(tones(frequencies=(440.0, 440.0)[:channels]), format=format, subtype=subtype))
    assert len(sound.samples) == channels
    error = sound.samples[:, 1000:7000] - tones()[:, 1000:7000]
    assert np.sqrt(np.mean(error**2)) < 0.1
    assert AudioPreprocessing(sample_rate=RATE)({"array": sound.samples, "sampling_rate": sound.rate}).values.shape[:2] == (1, 1)
    assert AudioPreprocessing(sample_rate=RATE)(written(tones(frequencies=(440.0, 440.0)[:channels]), format=format, subtype=subtype)).sizes[0] > 7000


@pytest.mark.parametrize(("container", "codec", "part"), [("mp3", "libmp3lame", 0.5), ("matroska", "aac", 0.5), ("mp4", "aac", 0.9)])
def test_a_file_that_ends_before_its_sound_is_refused(tmp_path: Path, container: str, codec: str, part: float) -> None:
    whole = encoded(tones(4.0), container, codec)
    assert read_audio(whole).samples.shape[1] == pytest.approx(4 * RATE, abs=1200)
    path = tmp_path / "cut.sound"
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(SignalError, match=r"cut\.sound.* truncated"):
        read_audio(path)


def test_surround_sound_has_the_order_that_its_file_says() -> None:
    samples = np.stack([0.1 * channel * tones(0.25, rate=48000)[0] for channel in range(1, 7)])
    lossless = read_audio(written(samples, format="FLAC", subtype="PCM_24", rate=48000))
    assert lossless.channels is None
    np.testing.assert_allclose(lossless.samples, samples, atol=2**-22)
    lossy = read_audio(encoded(samples, "mp4", "aac", rate=48000, layout="5.1"))
    assert lossy.channels == ("FL", "FR", "FC", "LFE", "BL", "BR")
    loudness = np.abs(lossy.samples[:, 4000:8000]).max(axis=1)
    np.testing.assert_allclose(loudness[[0, 1, 2, 4, 5]], np.abs(samples).max(axis=1)[[0, 1, 2, 4, 5]], rtol=0.2)
    one, two = (AudioPreprocessing(sample_rate=16000, channels=count)(written(samples, rate=48000)).values for count in (1, 2))
    assert (one.shape, two.shape) == ((1, 1, 4000), (1, 2, 4000))


def test_channels_without_a_rule_are_named_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "ten.wav").write_bytes(written(np.zeros((10, 9), dtype=np.float32)))
    with pytest.raises(SignalError, match=r"ten\.wav.* 10 channels"):
        AudioPreprocessing(sample_rate=RATE)(tmp_path / "ten.wav")


def test_files_of_a_high_rate_and_of_silence_are_sounds_like_others() -> None:
    high = written(tones(0.1, rate=192000), format="FLAC", subtype="PCM_24", rate=192000)
    silence = written(np.zeros((1, 500), dtype=np.float32), rate=5000)
    batch = AudioPreprocessing(sample_rate=RATE)([high, silence])
    assert batch.sizes.tolist() == [[1600], [1600]]
    assert float(batch.values[0].abs().max()) == pytest.approx(0.5, abs=0.02)
    assert not batch.values[1].any()


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


@pytest.mark.parametrize(("bits", "suffix"), [(16, ".wav"), (16, ".flac"), (24, ".wav")])
def test_what_was_read_is_written_as_it_was(tmp_path: Path, bits: int, suffix: str) -> None:
    full = 2 ** (bits - 1)
    values = torch.tensor([[-full, -full + 1, -1, 0, 1, 12345, full - 1]], dtype=torch.float64) / full
    save_audio(values, tmp_path / f"a{suffix}", rate=RATE, bits=bits)
    read = read_audio(tmp_path / f"a{suffix}").samples
    assert torch.equal(torch.as_tensor(read, dtype=torch.float64), values)


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


def test_many_channels_are_read_one_by_one() -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (60, 100)).astype(np.float32)
    np.testing.assert_allclose(read_audio(written(samples, format="AU", subtype="PCM_16")).samples, samples, atol=2**-14)
