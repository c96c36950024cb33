"""encode, decode and reconstruct, on files, with a small tokenizer of random weights."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from command import refused, run, succeed
from PIL import Image

import visiontok
from visiontok.base.errors import ConfigError, IdentityError, SignalError, TextError, TokenError
from visiontok.data.token_file import TokenFile
from visiontok.generators.gpt.model import GPT, GPTConfig

SIZES = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizers `vq`, `other` (the same with other weights) and `vae`, and a generator `gpt`."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    common = {"image_size": 16, "num_latent_tokens": 4, "encoder": SIZES, "decoder": SIZES}
    vq = {**common, "quantizer": {"type": "vq", "codebook_size": 32, "dim": 4}}
    for name, config in (("vq", vq), ("other", vq), ("vae", {**common, "quantizer": {"type": "gaussian", "dim": 4}})):
        visiontok.save_pretrained(visiontok.create("titok", **config), folder / name)
    layout = visiontok.from_pretrained(folder / "vq").layout
    visiontok.save_pretrained(GPT(GPTConfig.parse({"layout": layout, "dim": 16, "depth": 1, "num_heads": 2})), folder / "gpt")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one.png`, `two.jpg`, `sub/one.png`, and `broken.png`, which is truncated."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    (folder / "sub").mkdir()
    for name, size in (("one.png", (40, 24)), ("two.jpg", (20, 30)), ("sub/one.png", (16, 16))):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes((folder / "one.png").read_bytes()[:200])
    return folder


@pytest.mark.parametrize("model", ["vq", "vae"])
def test_encode_then_decode_gives_what_the_model_gives(models: Path, images: Path, tmp_path: Path, model: str) -> None:
    paths = [images / "one.png", images / "two.jpg", images / "sub" / "one.png"]
    encoded = succeed("encode", *paths, "--model", models / model, "-o", tmp_path / "t.npz", "--device", "cpu")
    assert encoded.stdout == f"{tmp_path / 't.npz'}: 3 x 4 tokens{', 20 bits each' if model == 'vq' else ''}\n"
    assert encoded.stderr.count("16 x 16 pixels") == 1
    succeed("decode", tmp_path / "t.npz", "-o", tmp_path / "out", "--device", "cpu")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one-2.png", "one.png", "two.png"]

    tokenizer = visiontok.from_pretrained(models / model)
    expected = tokenizer.decode(tokenizer.encode(paths[2]))[0]
    found = np.asarray(Image.open(tmp_path / "out" / "one-2.png")).transpose(2, 0, 1) / 255
    assert np.abs(found - expected.numpy()).max() <= 0.5 / 255 + 1e-6


def test_one_sample_is_decoded_to_the_named_file(models: Path, images: Path, tmp_path: Path) -> None:
    for count in (1, 2):
        paths = [images / "one.png", images / "two.jpg"][:count]
        succeed("encode", *paths, "--model", models / "vq", "-o", tmp_path / f"{count}.npz", "--device", "cpu")
    succeed("decode", tmp_path / "1.npz", "-o", tmp_path / "image.png", "--device", "cpu")
    assert Image.open(tmp_path / "image.png").size == (16, 16)
    refused = run("decode", tmp_path / "2.npz", "-o", tmp_path / "both.png", "--device", "cpu")
    assert refused.exit_code == 1
    assert "both.png" in refused.stderr
    assert not (tmp_path / "both.png").exists()
    refused = run("reconstruct", images / "one.png", "--model", models / "vq", "-o", tmp_path / "made.png")
    assert refused.exit_code == 1
    assert "made.png" in refused.stderr


@pytest.mark.parametrize("command", ["encode", "reconstruct"])
def test_unreadable_files_are_named_and_the_others_are_processed(models: Path, images: Path, tmp_path: Path, command: str) -> None:
    output = tmp_path / "out"
    result = run(command, images / "one.png", images / "broken.png", tmp_path / "absent.png", "-m", models / "vq", "-o", output)
    assert result.exit_code == 1
    _, first, second, error = result.stderr.splitlines()
    assert str(images / "broken.png") in first
    assert str(tmp_path / "absent.png") in second
    assert "2 of 3" in error
    if command == "encode":
        assert TokenFile.read(output).keys == (str(images / "one.png"),)
    else:
        assert sorted(path.name for path in output.iterdir()) == ["one.png", "report.html"]


@pytest.mark.parametrize("command", ["encode", "reconstruct"])
def test_a_folder_points_to_the_command_for_folders(images: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Before the model, which is absent, is loaded; quoted so that a shell takes it."""
    monkeypatch.chdir(images.parent)
    spaced = images.parent / "two words"
    if not spaced.exists():
        shutil.copytree(images, spaced)
    error = refused(command, "two words", "--model", "./absent")
    assert isinstance(error, SignalError)
    suggested = str(error).partition("Use: ")[2]
    if command == "encode":
        assert shlex.split(suggested) == ["visiontok", "tokenize", "./two words", "-o", "tokens/two words", "--model", "./absent"]
    else:
        shown = subprocess.run(["sh", "-c", suggested.replace("visiontok", "echo", 1)], capture_output=True, text=True, check=True).stdout
        assert "two words/one.png" in shown


def test_missing_inputs_are_named_before_the_model_is_loaded(images: Path) -> None:
    error = refused("encode", images / "oen.png", "--model", "./absent")
    assert isinstance(error, SignalError)
    assert str(images / "one.png") in str(error)


def test_a_folder_among_files_is_skipped(models: Path, images: Path, tmp_path: Path) -> None:
    result = run("encode", images / "one.png", images / "sub", "-m", models / "vq", "-o", tmp_path / "t.npz")
    assert result.exit_code == 1
    assert str(images / "sub") in result.stderr
    assert TokenFile.read(tmp_path / "t.npz").keys == (str(images / "one.png"),)


def test_nothing_is_written_without_a_readable_file(models: Path, images: Path, tmp_path: Path) -> None:
    assert run("encode", images / "broken.png", "-m", models / "vq", "-o", tmp_path / "t.npz").exit_code == 1
    assert not (tmp_path / "t.npz").exists()


def test_reconstruct_writes_both_and_prints_psnr_and_bits(models: Path, images: Path, tmp_path: Path) -> None:
    result = succeed("reconstruct", images / "one.png", images / "sub" / "one.png", "-m", models / "vq", "-o", tmp_path / "out")
    header, first, second, last, report = result.stdout.splitlines()
    assert header.split() == ["input", "PSNR", "(dB)", "tokens", "bits"]
    assert first.split()[0] == str(images / "one.png")
    assert second.split()[2:] == ["4", "20"]
    assert last.endswith(str(tmp_path / "out"))
    assert report.endswith(str(tmp_path / "out" / "report.html"))

    both = np.asarray(Image.open(tmp_path / "out" / "one-2.png")).astype(float)
    assert both.shape == (16, 32, 3)
    original = np.asarray(Image.open(images / "sub" / "one.png"))
    assert (both[:, :16] == original).all()
    psnr = 10 * np.log10(255**2 / ((both[:, :16] - both[:, 16:]) ** 2).mean())
    assert float(second.split()[1]) == pytest.approx(psnr, abs=0.006)


def test_a_generator_is_not_a_tokenizer(models: Path, images: Path) -> None:
    error = refused("reconstruct", images / "one.png", "--model", models / "gpt")
    assert isinstance(error, ConfigError)
    assert str(models / "gpt") in str(error)


def test_decode_refuses_tokens_of_another_tokenizer_unless_told(models: Path, images: Path, tmp_path: Path) -> None:
    succeed("encode", images / "one.png", "-m", models / "vq", "-o", tmp_path / "t.npz")
    error = refused("decode", tmp_path / "t.npz", "-m", models / "other", "-o", tmp_path / "out")
    assert isinstance(error, IdentityError)
    assert all(str(models / name) in str(error) for name in ("vq", "other"))
    assert not (tmp_path / "out").exists()
    succeed("decode", tmp_path / "t.npz", "-m", models / "other", "-o", tmp_path / "out", "--allow-other-tokenizer")
    assert (tmp_path / "out" / "one.png").exists()
    for options in ([], ["--allow-other-tokenizer"]):
        assert isinstance(refused("decode", tmp_path / "t.npz", "-m", models / "vae", "-o", tmp_path / "x", *options), IdentityError | TokenError)


def test_the_same_weights_by_another_name_are_the_same_tokenizer(models: Path, images: Path, tmp_path: Path) -> None:
    succeed("encode", images / "one.png", "-m", models / "vq", "-o", tmp_path / "t.npz")
    shutil.copytree(models / "vq", tmp_path / "copy")
    succeed("decode", tmp_path / "t.npz", "-m", tmp_path / "copy", "-o", tmp_path / "out")


def test_decode_of_something_else_than_a_token_file(images: Path, tmp_path: Path) -> None:
    assert isinstance(refused("decode", images, "-o", tmp_path), TokenError)
    absent = run("decode", tmp_path / "absent.npz", "-o", tmp_path)
    assert (absent.exit_code, absent.stderr) == (1, f"Error: {tmp_path / 'absent.npz'}: No such file or directory\n")
    error = refused("decode", images / "one.png", "-o", tmp_path)
    assert isinstance(error, TokenError)
    assert str(images / "one.png") in str(error)


def test_text_conditioned_tokenizers_take_the_option_text(models: Path, images: Path, tmp_path: Path) -> None:
    text = {"length": 4, "dim": 8, "encoder": {"type": "hashed_words"}}
    quantizer = {"type": "vq", "codebook_size": 32, "dim": 4}
    torch.manual_seed(0)
    model = visiontok.create("textok", image_size=16, num_latent_tokens=4, encoder=SIZES, decoder=SIZES, quantizer=quantizer, text=text)
    visiontok.save_pretrained(model, tmp_path / "textok")
    common = ("--model", tmp_path / "textok", "--device", "cpu")
    given = (*common, "--text", "a red circle")
    for command in ("encode", "reconstruct"):
        assert isinstance(refused(command, images / "one.png", "-o", tmp_path / command, *common), TextError)
    succeed("encode", images / "one.png", "-o", tmp_path / "t.npz", *given)
    succeed("decode", tmp_path / "t.npz", "-o", tmp_path / "out", *given)
    succeed("reconstruct", images / "one.png", "-o", tmp_path / "shown", *given)
    both, alone = (np.asarray(Image.open(tmp_path / folder / "one.png")) for folder in ("shown", "out"))
    assert np.array_equal(both[:, 16:], alone)
    error = refused("reconstruct", images / "one.png", "--model", models / "vq", "--text", "a red circle", "--device", "cpu")
    assert isinstance(error, ConfigError)
    assert "--text" in str(error)
