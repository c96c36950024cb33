"""encode, decode, reconstruct and tokenize on sound, for every family of codecs at its smallest size."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command import refused, run, succeed
from small_models import SMALL

import visiontok
from visiontok import registry
from visiontok.base.errors import ConfigError, DataError, TokenError
from visiontok.data.token_dataset import TokenDataset
from visiontok.data.token_file import TokenFile
from visiontok.tokenizers.shared.codec import Codec

CODECS = [
    name
    for name, family in registry.families().items()
    if family.kind == "tokenizer" and family.modalities == ("audio",) and issubclass(family.model_class(), Codec)
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in CODECS:
        torch.manual_seed(0)
        visiontok.save_pretrained(visiontok.create(name, **SMALL[name]), folder / name)
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mono.wav` of 3,000 Hz, `stereo.flac` of 1,600 Hz, and `broken.wav`, which is truncated."""
    folder = tmp_path_factory.mktemp("sounds")
    random = np.random.default_rng(0)
    soundfile.write(folder / "mono.wav", random.uniform(-0.5, 0.5, 2000), 3000)
    soundfile.write(folder / "stereo.flac", random.uniform(-0.5, 0.5, (900, 2)), 1600)
    (folder / "broken.wav").write_bytes((folder / "mono.wav").read_bytes()[:500])
    return folder


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_from_a_file_to_a_report(models: Path, sounds: Path, tmp_path: Path, name: str) -> None:
    codec = visiontok.from_pretrained(models / name)
    assert isinstance(codec, Codec)
    files = [sounds / "mono.wav", sounds / "stereo.flac"]
    common = ("--model", models / name, "--device", "cpu")
    succeed("encode", *files, *common, "-o", tmp_path / "tokens.npz")
    assert len(TokenFile.read(tmp_path / "tokens.npz").keys) == 2
    decoded = succeed("decode", tmp_path / "tokens.npz", "-o", tmp_path / "decoded", "--device", "cpu")
    assert decoded.stdout == f"2 sounds in {tmp_path / 'decoded'}\n"
    for path in files:
        found, rate = soundfile.read(tmp_path / "decoded" / f"{path.stem}.wav", dtype="float32", always_2d=True)
        expected = codec.decode(codec.encode(path))[0]
        assert (rate, found.T.shape) == (codec.spec.rate, tuple(expected.shape))
        assert np.abs(found.T - expected.clamp(-1, 1).numpy()).max() <= 1 / 2**15 + 1e-5

    counts = [*codec.levels_supported][-2:]
    shown = succeed("reconstruct", *files, *common, "--num-quantizers", ",".join(map(str, counts)), "-o", tmp_path / "out")
    header, *rows = shown.stdout.splitlines()[: 1 + 2 * len(counts)]
    assert re.split(r"  +", header) == ["input", "levels", "SI-SDR (dB)", "tokens", "bits", "kbit/s"]
    assert [row.split()[1] for row in rows] == [str(count) for count in counts] * 2
    written = {f"{path.stem}-{count}.wav" for path in files for count in counts}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*written, "report.html"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<audio") == 2 * (1 + len(counts))
    assert page.count('class="codes"') == 2


@pytest.mark.parametrize("command", ["encode", "reconstruct"])
def test_unreadable_sounds_are_named(models: Path, sounds: Path, tmp_path: Path, command: str) -> None:
    result = run(command, sounds / "broken.wav", sounds / "mono.wav", "-m", models / "dac", "-o", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 1
    assert f"Skipped: {sounds / 'broken.wav'}" in result.stderr
    assert "1 of 2" in result.stderr


def test_levels_are_cut_by_every_command(models: Path, sounds: Path, tmp_path: Path) -> None:
    common = ("--model", models / "dac", "--device", "cpu")
    codec = visiontok.from_pretrained(models / "dac")
    succeed("encode", sounds / "mono.wav", *common, "-o", tmp_path / "all.npz")
    succeed("encode", sounds / "mono.wav", *common, "--num-quantizers", "1", "-o", tmp_path / "one.npz")
    whole, one = (TokenFile.read(tmp_path / name).tokens for name in ("all.npz", "one.npz"))
    assert torch.equal(one.indices, whole.levels(1).indices)
    for file, options in (("all.npz", ("--num-quantizers", "1")), ("one.npz", ())):
        succeed("decode", tmp_path / file, *options, "-o", tmp_path / file.removesuffix(".npz"), "--device", "cpu")
    assert (tmp_path / "all" / "mono.wav").read_bytes() == (tmp_path / "one" / "mono.wav").read_bytes()
    succeed("tokenize", f"folder:{sounds}", *common, "--num-quantizers", "1", "--num-workers", "0", "-o", tmp_path / "set")
    assert TokenDataset(tmp_path / "set").layout.is_same_kind(codec.layout.with_levels(1))


def test_bitrates_stand_for_levels(models: Path, sounds: Path, tmp_path: Path) -> None:
    common = ("--model", models / "dac", "--device", "cpu")
    codec = visiontok.from_pretrained(models / "dac")
    assert isinstance(codec, Codec)
    least, rate = codec.kilobits[0], f"{codec.kilobits[1] * 1.2:g}"
    succeed("encode", sounds / "mono.wav", *common, "-o", tmp_path / "all.npz")
    succeed("encode", sounds / "mono.wav", *common, "--bandwidth", rate, "-o", tmp_path / "two.npz")
    whole, two = (TokenFile.read(tmp_path / name).tokens for name in ("all.npz", "two.npz"))
    assert torch.equal(two.indices, whole.levels(2).indices)
    for file, options in (("all.npz", ("--bandwidth", rate)), ("two.npz", ("--bandwidth", "99"))):
        succeed("decode", tmp_path / file, *options, "-o", tmp_path / file.removesuffix(".npz"), "--device", "cpu")
    assert (tmp_path / "all" / "mono.wav").read_bytes() == (tmp_path / "two" / "mono.wav").read_bytes()
    succeed("tokenize", f"folder:{sounds}", *common, "--bandwidth", rate, "--num-workers", "0", "-o", tmp_path / "set")
    assert TokenDataset(tmp_path / "set").layout.is_same_kind(codec.layout.with_levels(2))
    shown = succeed("reconstruct", sounds / "mono.wav", *common, "--bandwidth", f"99,{least},{rate},{rate}", "-o", tmp_path / "out", "--no-report")
    assert [row.split()[1] for row in shown.stdout.splitlines()[1:4]] == ["1", "2", "3"]


def test_bitrates_that_cannot_be_are_refused(models: Path, sounds: Path, tmp_path: Path) -> None:
    common = (sounds / "mono.wav", "--model", models / "dac", "-o", tmp_path / "out", "--device", "cpu", "--bandwidth")
    for command in ("encode", "reconstruct"):
        assert isinstance(refused(command, *common, "1e-6"), TokenError)
        assert isinstance(refused(command, *common, "3", "--num-quantizers", "1"), ConfigError)
    assert isinstance(refused("reconstruct", *common, "3,fast"), ConfigError)
    grid = visiontok.save_pretrained(visiontok.create("conv-grid", **SMALL["conv-grid"]), tmp_path / "grid")
    np.save(tmp_path / "image.npy", np.zeros((3, 16, 16), dtype=np.float32))
    arguments = (tmp_path / "image.npy", "--model", grid, "-o", tmp_path / "out", "--device", "cpu", "--bandwidth", "3")
    assert isinstance(refused("encode", *arguments), ConfigError)
    assert not (tmp_path / "out").exists()


def test_unknown_numbers_of_levels_are_refused(models: Path, sounds: Path, tmp_path: Path) -> None:
    common = (sounds / "mono.wav", "--model", models / "dac", "-o", tmp_path / "out", "--device", "cpu", "--num-quantizers")
    for text in ("1,99", "one", "0", "1,,2"):
        assert isinstance(refused("reconstruct", *common, text), ConfigError)
    assert isinstance(refused("encode", *common, "99"), TokenError)
    assert not (tmp_path / "out").exists()


def test_sound_at_full_scale_is_reported(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "loud.wav", np.ones(800), 1600)
    monkeypatch.setattr(Codec, "decode", lambda self, tokens, **options: torch.ones(1, 1, 5))
    result = succeed("reconstruct", tmp_path / "loud.wav", "-m", models / "dac", "-o", tmp_path / "out", "--device", "cpu", "--no-report")
    assert "loud.wav: 5 values are at full scale" in result.stderr
    assert not (tmp_path / "out" / "report.html").exists()


def test_tokenize_reads_folders_and_shards_of_sound(models: Path, sounds: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for name in ("broken.wav", "mono.wav", "stereo.flac"):
            archive.add(sounds / name, name)
    common = ("--model", models / "dac", "--num-workers", "0", "--device", "cpu")
    codec = visiontok.from_pretrained(models / "dac")
    for source, prefix in ((sounds, ""), (tmp_path / "shard.tar", "shard/")):
        output = tmp_path / f"tokens-{prefix.strip('/')}"
        result = succeed("tokenize", source, "-o", output, *common)
        assert result.stdout == f"{output}: 2 samples in 1 shard\n"
        assert "broken" in result.stderr
        stored = TokenDataset(output)
        for row, name in enumerate(("mono.wav", "stereo.flac")):
            sample = stored[row : row + 1]
            assert sample.keys == [f"{prefix}{name.partition('.')[0] if prefix else name}"]
            assert torch.equal(sample.tokens.indices, codec.encode(sounds / name).indices)


@pytest.mark.filterwarnings("ignore:WavTokenizer reads whole sounds")
def test_long_sounds_are_taken_in_windows(models: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 8000), 1600)
    common = ("--model", models / "wavtokenizer", "--device", "cpu")
    codec = visiontok.from_pretrained(models / "wavtokenizer")
    assert isinstance(codec, Codec)
    whole = codec.encode(tmp_path / "long.wav")
    codec.window = 0.5
    near = codec.encode(tmp_path / "long.wav")
    expected = codec.decode(near)[0]
    for window, tokens in (("0.5", near), ("inf", whole)):
        succeed("encode", tmp_path / "long.wav", *common, "--window", window, "-o", tmp_path / "tokens.npz")
        assert torch.equal(TokenFile.read(tmp_path / "tokens.npz").tokens.indices, tokens.indices)
    succeed("encode", tmp_path / "long.wav", *common, "--window", "0.5", "-o", tmp_path / "tokens.npz")
    succeed("decode", tmp_path / "tokens.npz", "--window", "0.5", "-o", tmp_path / "decoded", "--device", "cpu")
    succeed("reconstruct", tmp_path / "long.wav", *common, "--window", "0.5", "-o", tmp_path / "out", "--no-report")
    for folder in ("decoded", "out"):
        found, _ = soundfile.read(tmp_path / folder / "long.wav", dtype="float32")
        assert np.abs(found - expected[0].clamp(-1, 1).numpy()).max() <= 1 / 2**15 + 1e-5
    into = ("tokenize", tmp_path, "-o", tmp_path / "set", *common, "--num-workers", "0")
    succeed(*into, "--window", "0.5")
    assert torch.equal(TokenDataset(tmp_path / "set")[0:1].tokens.indices, near.indices)
    assert isinstance(refused(*into), DataError)
    assert isinstance(refused("encode", tmp_path / "long.wav", *common, "--window", "0", "-o", tmp_path / "none.npz"), ConfigError)
