"""encode, decode and reconstruct, on real files with a small tokenizer of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

import visiontok
from visiontok.cli import app
from visiontok.data.token_file import TokenFile
from visiontok.generators.gpt.model import GPT, GPTConfig

SIZES = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


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
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one.png`, `two.jpg`, `sub/one.png`, and `broken.png`, which is cut short."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    (folder / "sub").mkdir()
    for name, size in (("one.png", (40, 24)), ("two.jpg", (20, 30)), ("sub/one.png", (16, 16))):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes((folder / "one.png").read_bytes()[:200])
    return folder


@pytest.mark.parametrize("model", ["vq", "vae"])
def test_encode_then_decode_gives_what_the_model_gives(models: Path, pictures: Path, tmp_path: Path, model: str) -> None:
    paths = [pictures / "one.png", pictures / "two.jpg", pictures / "sub" / "one.png"]
    encoded = run("encode", *paths, "--model", models / model, "-o", tmp_path / "t.npz", "--device", "cpu")
    assert encoded.exit_code == 0, encoded.output
    assert encoded.output == f"{tmp_path / 't.npz'}: 3 x 4 tokens{', 20 bits each' if model == 'vq' else ''}\n"
    decoded = run("decode", tmp_path / "t.npz", "-o", tmp_path / "out", "--device", "cpu")
    assert decoded.exit_code == 0, decoded.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one-2.png", "one.png", "two.png"]

    tokenizer = visiontok.from_pretrained(models / model)
    expected = tokenizer.decode(tokenizer.encode(paths[2]))[0]
    found = np.asarray(Image.open(tmp_path / "out" / "one-2.png")).transpose(2, 0, 1) / 255
    assert np.abs(found - expected.numpy()).max() <= 0.5 / 255 + 1e-6


def test_a_broken_picture_is_named_and_the_others_are_encoded(models: Path, pictures: Path, tmp_path: Path) -> None:
    for command in ("encode", "reconstruct"):
        output = tmp_path / f"{command}.out"
        result = run(command, pictures / "one.png", pictures / "broken.png", tmp_path / "absent.png", "-m", models / "vq", "-o", output)
        assert result.exit_code == 1
        assert f"Left out: {pictures / 'broken.png'}" in result.stderr
        assert "absent.png" in result.stderr
        assert "Error: 2 of 3 pictures could not be used; the others are done" in result.stderr
        assert output.exists()
    assert TokenFile.read(tmp_path / "encode.out").keys == (str(pictures / "one.png"),)


def test_nothing_is_written_where_nothing_can_be_read(models: Path, pictures: Path, tmp_path: Path) -> None:
    result = run("encode", pictures / "broken.png", "-m", models / "vq", "-o", tmp_path / "t.npz")
    assert result.exit_code == 1
    assert not (tmp_path / "t.npz").exists()


def test_reconstruct_shows_both_and_tells_numbers(models: Path, pictures: Path, tmp_path: Path) -> None:
    result = run("reconstruct", pictures / "one.png", pictures / "sub" / "one.png", "-m", models / "vq", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    header, first, second, last = result.stdout.splitlines()
    assert header.split() == ["picture", "PSNR", "in", "dB", "tokens", "bits"]
    assert first.split()[0] == str(pictures / "one.png")
    assert second.split()[2:] == ["4", "20"]
    assert last.endswith(str(tmp_path / "out"))

    both = np.asarray(Image.open(tmp_path / "out" / "one-2.png")).astype(float)
    assert both.shape == (16, 32, 3)
    original = np.asarray(Image.open(pictures / "sub" / "one.png"))
    assert (both[:, :16] == original).all()
    psnr = 10 * np.log10(255**2 / ((both[:, :16] - both[:, 16:]) ** 2).mean())
    assert float(second.split()[1]) == pytest.approx(psnr, abs=0.006)


def test_a_generator_is_not_a_tokenizer(models: Path, pictures: Path) -> None:
    result = run("reconstruct", pictures / "one.png", "--model", models / "gpt")
    assert result.exit_code == 1
    assert "is a generator; this command needs a tokenizer" in result.stderr


def test_decode_warns_of_other_weights_and_refuses_other_layouts(models: Path, pictures: Path, tmp_path: Path) -> None:
    assert run("encode", pictures / "one.png", "-m", models / "vq", "-o", tmp_path / "t.npz").exit_code == 0
    other = run("decode", tmp_path / "t.npz", "-m", models / "other", "-o", tmp_path / "out")
    assert other.exit_code == 0
    assert "with other weights" in other.stderr
    vae = run("decode", tmp_path / "t.npz", "-m", models / "vae", "-o", tmp_path / "out")
    assert vae.exit_code == 1
    assert "another tokenizer" in vae.stderr


def test_decode_of_what_is_no_file_of_tokens(pictures: Path, tmp_path: Path) -> None:
    absent = run("decode", tmp_path / "absent.npz", "-o", tmp_path)
    assert (absent.exit_code, absent.stderr) == (1, f"Error: {tmp_path / 'absent.npz'}: No such file or directory\n")
    picture = run("decode", pictures / "one.png", "-o", tmp_path)
    assert picture.exit_code == 1
    assert "is not a file of tokens" in picture.stderr


def test_a_tokenizer_that_reads_a_text_is_given_one(models: Path, pictures: Path, tmp_path: Path) -> None:
    text = {"length": 4, "dim": 8, "encoder": {"type": "hashed_words"}}
    quantizer = {"type": "vq", "codebook_size": 32, "dim": 4}
    torch.manual_seed(0)
    model = visiontok.create("textok", image_size=16, num_latent_tokens=4, encoder=SIZES, decoder=SIZES, quantizer=quantizer, text=text)
    visiontok.save_pretrained(model, tmp_path / "textok")
    common = ("--model", tmp_path / "textok", "--device", "cpu")
    for command in ("encode", "reconstruct"):
        refused = run(command, pictures / "one.png", "-o", tmp_path / command, *common)
        assert "--text" in refused.stderr
    encoded = run("encode", pictures / "one.png", "-o", tmp_path / "t.npz", "--text", "a red circle", *common)
    assert encoded.exit_code == 0, encoded.output
    decoded = run("decode", tmp_path / "t.npz", "-o", tmp_path / "out", "--text", "a red circle", *common)
    assert decoded.exit_code == 0, decoded.output
    shown = run("reconstruct", pictures / "one.png", "-o", tmp_path / "shown", "--text", "a red circle", *common)
    assert shown.exit_code == 0, shown.output
    both, alone = (np.asarray(Image.open(tmp_path / folder / "one.png")) for folder in ("shown", "out"))
    assert np.array_equal(both[:, 16:], alone)
    wrong = run("reconstruct", pictures / "one.png", "--model", models / "vq", "--text", "a red circle", "--device", "cpu")
    assert "reads no text" in wrong.stderr
