"""encode, decode, reconstruct and tokenize on video files, for every family of video tokenizers at its smallest size."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from weakref import WeakSet

import numpy as np
import pytest
import torch
from command import refused, run, succeed
from small_models import SMALL
from video_files import frames, tone, video

import visiontok
from visiontok import registry
from visiontok.base.errors import ConfigError, DataError, SignalError
from visiontok.core.chunks import Chunked
from visiontok.data.token_dataset import TokenDataset
from visiontok.data.token_file import TokenFile
from visiontok.layers.carry import Carry
from visiontok.signals import VideoPreprocessing
from visiontok.signals.audio_reading import read_audio
from visiontok.signals.video_reading import read_clip

FAMILIES = [
    name
    for name, family in registry.families().items()
    if family.kind == "tokenizer" and "video" in family.modalities and family.model_class().can_decode
]
CAUSAL = "conv-clip"  # takes any size, and long clips in chunks
AT_MOST = "larp"
WHOLE = "omnitokenizer"  # takes long clips as several


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in FAMILIES:
        torch.manual_seed(0)
        visiontok.save_pretrained(visiontok.create(name, **SMALL[name]), folder / name)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a.mp4` with sound, `sub/a.mkv`, `odd.mp4` of 70 x 46 pixels, `long.mp4`, and `broken.mp4`, which is none."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "sub").mkdir()
    (folder / "a.mp4").write_bytes(video(frames(4, height=16, width=16), sound=tone(0.4)))
    (folder / "sub" / "a.mkv").write_bytes(video(frames(4, height=16, width=16), "matroska"))
    (folder / "odd.mp4").write_bytes(video(frames(18, height=46, width=70)))
    (folder / "long.mp4").write_bytes(video(frames(90, height=16, width=32)))
    (folder / "broken.mp4").write_bytes(b"no video at all")
    return folder


def luma(clip: np.ndarray) -> np.ndarray:
    """Of frames (T, H, W, 3): what mp4 keeps of the noise that untrained networks make, whose colors it halves in resolution."""
    return clip @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_from_a_file_to_a_report(models: Path, clips: Path, tmp_path: Path, name: str) -> None:
    tokenizer = visiontok.from_pretrained(models / name)
    common = ("--model", models / name, "--device", "cpu")
    files = [clips / "a.mp4", clips / "sub" / "a.mkv"]
    succeed("encode", *files, *common, "-o", tmp_path / "tokens.npz")
    assert TokenFile.read(tmp_path / "tokens.npz").keys == tuple(map(str, files))
    decoded = succeed("decode", tmp_path / "tokens.npz", "-o", tmp_path / "decoded", "--device", "cpu")
    assert decoded.stdout == f"2 clips in {tmp_path / 'decoded'}\n"
    for path, written in zip(files, ("a.mp4", "a-2.mp4"), strict=True):
        expected = tokenizer.decode(tokenizer.encode(path))[0]
        found = read_clip(tmp_path / "decoded" / written)
        assert found.frames.shape == (*expected.shape[1:], 3)
        assert found.rate == pytest.approx(10)
    shown = succeed("reconstruct", *files, *common, "-o", tmp_path / "out")
    header, *rows = shown.stdout.splitlines()[:3]
    assert re.split(r"  +", header) == ["input", "PSNR (dB)", "tokens", "bits", "kbit/s"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.mp4", "a-2.mp4", "report.html"}
    assert " 10 frames per second" in (tmp_path / "out" / "report.html").read_text()  # of the files, whatever the tokenizer was made for
    for row, path, written in zip(rows, files, ("a.mp4", "a-2.mp4"), strict=True):
        original, tokens = tokenizer.prepare(path).values[0], tokenizer.encode(path)
        error = (tokenizer.decode(tokens)[0] - original).square().mean()
        assert float(row.split()[1]) == pytest.approx(float(-10 * error.log10()), abs=0.1)
        assert row.split()[2] == str(tokens.layout.length)
        both = read_clip(tmp_path / "out" / written).frames
        assert both.shape == (original.shape[1], original.shape[2], 2 * original.shape[3], 3)
        assert np.abs(both[:, :, : original.shape[3]] / 255 - original.permute(1, 2, 3, 0).numpy()).mean() < 0.03
    sound = read_audio(tmp_path / "out" / "a.mp4")
    assert sound.samples.shape[1] / sound.rate == pytest.approx(0.4, abs=0.13)
    result = succeed("tokenize", clips / "sub", "-o", tmp_path / "set", *common, "--num-workers", "0")
    assert result.stdout == f"{tmp_path / 'set'}: 1 samples in 1 shard\n"
    assert torch.equal(TokenDataset(tmp_path / "set")[0:1].tokens.data, tokenizer.encode(clips / "sub" / "a.mkv").data)


ANY_SIZE = [name for name in FAMILIES if name in (CAUSAL, "emu3-vq-video")]


@pytest.mark.parametrize("name", ANY_SIZE)
def test_odd_sizes_and_numbers_of_frames_come_back(models: Path, clips: Path, tmp_path: Path, name: str) -> None:
    common = ("--model", models / name, "--device", "cpu")
    succeed("encode", clips / "odd.mp4", *common, "-o", tmp_path / "t.npz")
    succeed("decode", tmp_path / "t.npz", "-o", tmp_path / "decoded", "--device", "cpu")
    assert read_clip(tmp_path / "decoded" / "odd.mp4").frames.shape == (18, 46, 70, 3)
    succeed("reconstruct", clips / "odd.mp4", *common, "-o", tmp_path / "out", "--no-report")
    assert read_clip(tmp_path / "out" / "odd.mp4").frames.shape == (18, 46, 140, 3)


def test_frames_and_rates_are_chosen(models: Path, clips: Path, tmp_path: Path) -> None:
    common = (clips / "odd.mp4", "--model", models / "emu3-vq-video", "--device", "cpu")
    succeed("encode", *common, "--fps", "5", "--frames", "8", "-o", tmp_path / "t.npz")
    tokens = TokenFile.read(tmp_path / "t.npz").tokens
    assert tokens.extras["signal_size"].tolist() == [[8, 46, 70]]
    for options, rate in (((), 5), (("--fps", "12"), 12)):
        succeed("decode", tmp_path / "t.npz", *options, "-o", tmp_path / "decoded", "--device", "cpu")
        found = read_clip(tmp_path / "decoded" / "odd.mp4")
        assert (len(found.frames), found.rate) == (8, pytest.approx(rate))
    succeed("reconstruct", *common, "--fps", "20", "-o", tmp_path / "out", "--no-report")
    assert len(read_clip(tmp_path / "out" / "odd.mp4").frames) == 36


def test_frames_are_resized_on_demand(models: Path, clips: Path, tmp_path: Path) -> None:
    common = ("--model", models / CAUSAL, "--device", "cpu")
    succeed("reconstruct", clips / "odd.mp4", *common, "--size", "24", "-o", tmp_path / "out", "--no-report")
    assert read_clip(tmp_path / "out" / "odd.mp4").frames.shape == (18, 24, 48, 3)
    succeed("encode", clips / "odd.mp4", *common, "--size", "24", "-o", tmp_path / "t.npz")
    expected = TokenFile.read(tmp_path / "t.npz").tokens
    succeed("tokenize", f"folder:{clips}", *common, "--size", "24", "-o", tmp_path / "set", "--num-workers", "0")
    stored = TokenDataset(tmp_path / "set")
    row = stored[0 : len(stored)].keys.index("odd.mp4")
    assert torch.equal(stored[row : row + 1].tokens.data, expected.data)
    error = refused("encode", clips / "odd.mp4", "--model", models / AT_MOST, "--device", "cpu", "--size", "24", "-o", tmp_path / "t.npz")
    assert isinstance(error, SignalError)
    with pytest.raises(DataError, match="frames"):
        raise refused("tokenize", f"folder:{clips}", *common, "-o", tmp_path / "set", "--num-workers", "0")


def test_a_clip_is_cut_into_clips_with_tokens_of_their_own(models: Path, clips: Path, tmp_path: Path) -> None:
    tokenizer = visiontok.from_pretrained(models / AT_MOST)
    most = tokenizer.preprocessing.num_frames
    common = (clips / "odd.mp4", "--model", models / AT_MOST, "--device", "cpu")
    for command in ("encode", "reconstruct"):
        result = run(command, *common, "-o", tmp_path / "refused")
        assert result.exit_code == 1
        assert re.search(rf"odd\.mp4 has 18 frames.* at most {most}", result.stderr)
    succeed("encode", *common, "--clip-length", most, "-o", tmp_path / "t.npz")
    file = TokenFile.read(tmp_path / "t.npz")
    counts = [most] * (18 // most) + [18 % most] * (18 % most > 0)
    assert file.keys == tuple(f"{clips / 'odd.mp4'}#{number}" for number in range(len(counts)))
    assert file.tokens.extras["signal_size"][:, 0].tolist() == counts
    whole = tokenizer.preprocessing(clips / "odd.mp4").values
    for number, part in enumerate(whole.split(most, dim=2)):
        assert torch.equal(file.tokens[number : number + 1].data, tokenizer.encode(part).data)
    succeed("reconstruct", *common, "--clip-length", most, "-o", tmp_path / "out")
    assert len(read_clip(tmp_path / "out" / "odd.mp4").frames) == 18
    succeed("tokenize", f"folder:{clips}", *common[1:], "--clip-length", most, "--num-workers", "0", "-o", tmp_path / "set")
    stored = TokenDataset(tmp_path / "set")
    keys = stored[0 : len(stored)].keys
    assert [key for key in keys if key.startswith("odd")] == [f"odd.mp4#{number}" for number in range(len(counts))]
    first = keys.index("odd.mp4#0")
    assert torch.equal(stored[first : first + len(counts)].tokens.data, file.tokens.data)


def test_long_clips_go_through_in_chunks_with_the_same_result(models: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = visiontok.from_pretrained(models / CAUSAL)
    assert isinstance(tokenizer, Chunked)
    whole = tokenizer.encode(clips / "long.mp4")
    expected = tokenizer.decode(whole)[0].permute(1, 2, 3, 0).numpy() * 255
    longest = []
    encode_next = type(tokenizer).encode_next
    monkeypatch.setattr(
        type(tokenizer), "encode_next", lambda self, signal, carry: (longest.append(signal.shape[2]), encode_next(self, signal, carry))[1]
    )
    common = ("--model", models / CAUSAL, "--device", "cpu")
    succeed("encode", clips / "long.mp4", *common, "-o", tmp_path / "t.npz")
    assert torch.equal(TokenFile.read(tmp_path / "t.npz").tokens.data, whole.data)
    assert len(longest) > 4
    assert max(longest) <= 32
    succeed("decode", tmp_path / "t.npz", "-o", tmp_path / "decoded", "--device", "cpu")
    shown = succeed("reconstruct", clips / "long.mp4", *common, "-o", tmp_path / "out")
    assert shown.stdout.splitlines()[1].split()[2] == str(whole.layout.length)
    assert np.abs(luma(read_clip(tmp_path / "decoded" / "long.mp4").frames) - luma(expected)).mean() < 4
    both = read_clip(tmp_path / "out" / "long.mp4").frames
    assert both.shape == (90, 16, 64, 3)
    assert np.abs(luma(both[:, :, 32:]) - luma(expected)).mean() < 4


def test_long_clips_are_encoded_before_they_are_decoded(models: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, states, held = type(visiontok.from_pretrained(models / CAUSAL)), WeakSet[Carry](), []
    assert issubclass(kind, Chunked)
    encode_next, decode_next = kind.encode_next, kind.decode_next
    monkeypatch.setattr(kind, "encode_next", lambda self, signal, carry: (states.add(carry), encode_next(self, signal, carry))[1])
    monkeypatch.setattr(kind, "decode_next", lambda self, latents, carry: (held.append(len(states)), decode_next(self, latents, carry))[1])
    succeed("reconstruct", clips / "long.mp4", "--model", models / CAUSAL, "--device", "cpu", "-o", tmp_path, "--no-report")
    assert len(held) > 4
    assert not any(held)  # what the encoder keeps between chunks is gone


@pytest.mark.filterwarnings("ignore:.*OmniTokenizer reads whole clips")
def test_long_clips_of_tokenizers_that_read_whole_clips_are_taken_as_several(models: Path, clips: Path, tmp_path: Path) -> None:
    tokenizer = visiontok.from_pretrained(models / WHOLE)
    clip = tmp_path / "long.mp4"
    clip.write_bytes(video(frames(12, height=16, width=16)))
    expected = tokenizer.encode(clip)
    common = ("--model", models / WHOLE, "--device", "cpu")
    succeed("encode", clip, *common, "-o", tmp_path / "t.npz")
    tokens = TokenFile.read(tmp_path / "t.npz").tokens
    assert torch.equal(tokens.data, expected.data)
    assert tokens.extras["clips"][0, :, 0].tolist() == [5, 5, 2]
    succeed("decode", tmp_path / "t.npz", "-o", tmp_path / "decoded", "--device", "cpu")
    assert len(read_clip(tmp_path / "decoded" / "long.mp4").frames) == 12
    shown = succeed("reconstruct", clip, *common, "-o", tmp_path / "out", "--no-report")
    assert shown.stdout.splitlines()[1].split()[2] == str(expected.layout.length)
    assert len(read_clip(tmp_path / "out" / "long.mp4").frames) == 12
    (tmp_path / "folder").mkdir()
    clip.rename(tmp_path / "folder" / clip.name)
    (tmp_path / "folder" / "short.mp4").write_bytes(video(frames(4, height=16, width=16)))
    succeed("tokenize", f"folder:{tmp_path / 'folder'}", *common, "--num-workers", "0", "-o", tmp_path / "set")
    assert torch.equal(TokenDataset(tmp_path / "set")[0:1].tokens.data, expected.data)
    clip = tmp_path / "folder" / clip.name
    succeed("encode", clip, *common, "--window", "inf", "-o", tmp_path / "whole.npz")
    assert TokenFile.read(tmp_path / "whole.npz").tokens.layout.extents[0] == 7
    assert isinstance(refused("encode", clip, *common, "--window", "0", "-o", tmp_path / "x.npz"), ConfigError)


@pytest.mark.parametrize("command", ["encode", "reconstruct"])
def test_unreadable_clips_are_named(models: Path, clips: Path, tmp_path: Path, command: str) -> None:
    result = run(command, clips / "broken.mp4", clips / "a.mp4", "-m", models / CAUSAL, "-o", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 1
    assert f"Skipped: {clips / 'broken.mp4'}" in result.stderr
    assert "1 of 2" in result.stderr


def test_options_of_clips_are_refused_for_other_signals(tmp_path: Path) -> None:
    visiontok.save_pretrained(visiontok.create("titok", **SMALL["titok"]), tmp_path / "titok")
    (tmp_path / "a.png").write_bytes(b"")
    for command in ("encode", "reconstruct", "tokenize"):
        source = "digits" if command == "tokenize" else tmp_path / "a.png"
        error = refused(command, source, "-m", tmp_path / "titok", "-o", tmp_path / "out", "--device", "cpu", "--fps", "5")
        assert isinstance(error, ConfigError), error


def test_tokenize_reads_folders_and_shards_of_clips(models: Path, clips: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for name in ("a.mp4", "broken.mp4", "odd.mp4"):
            archive.add(clips / name, name)
    tokenizer = visiontok.from_pretrained(models / "emu3-vq-video")
    assert isinstance(tokenizer.preprocessing, VideoPreprocessing)
    result = succeed(
        "tokenize", tmp_path / "shard.tar", "-o", tmp_path / "set", "--model", models / "emu3-vq-video", "--frames", "8", "--num-workers", "0",
        "--device", "cpu",
    )  # fmt: skip
    assert result.stdout == f"{tmp_path / 'set'}: 2 samples in 1 shard\n"
    assert "broken" in result.stderr
    stored = TokenDataset(tmp_path / "set")
    assert stored[0:2].keys == ["shard/a", "shard/odd"]
    expected = tokenizer.encode(read_clip(clips / "odd.mp4").frames[:8])
    assert torch.equal(stored[1:2].tokens.data, expected.data)


def test_a_resumed_set_equals_an_uninterrupted_one(models: Path, clips: Path, tmp_path: Path) -> None:
    common = ("--model", models / AT_MOST, "--clip-length", "4", "--fps", "5", "--device", "cpu", "--num-workers", "0", "--shard-size", "2")
    for output, batch_size in (("whole", 64), ("batches", 1), ("resumed", 64)):
        succeed("tokenize", f"folder:{clips}", *common, "--batch-size", batch_size, "-o", tmp_path / output)
    shards = sorted(path.name for path in (tmp_path / "whole").glob("*.parquet"))
    assert len(shards) == 3
    (tmp_path / "resumed" / shards[1]).unlink()
    result = succeed("tokenize", f"folder:{clips}", *common, "-o", tmp_path / "resumed")
    assert "Resuming after 3 of 5" in result.stderr
    for output in ("batches", "resumed"):
        for name in shards:
            assert (tmp_path / output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(DataError, match="clip_length"):
        raise refused("tokenize", f"folder:{clips}", *common, "--clip-length", "3", "-o", tmp_path / "whole")


def test_clips_that_the_network_does_not_take_are_skipped_by_name(models: Path, clips: Path, tmp_path: Path) -> None:
    result = succeed("tokenize", f"folder:{clips}", "-o", tmp_path / "set", "-m", models / AT_MOST, "--device", "cpu", "--num-workers", "0")
    assert result.stdout == f"{tmp_path / 'set'}: 2 samples in 1 shard\n"
    assert re.search(r"odd\.mp4: .*18 frames", result.stderr)
