import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import visiontok
from visiontok.cli import app
from visiontok.data.token_file import TokenFile
from visiontok.generators.gpt.model import GPT, GPTConfig

SIZES = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    tokenizer = visiontok.create(
        "titok", image_size=16, num_latent_tokens=4, encoder=SIZES, decoder=SIZES, quantizer={"type": "vq", "codebook_size": 32, "dim": 4}
    )
    visiontok.save_pretrained(tokenizer, folder / "tokenizer")
    config = {"layout": tokenizer.layout, "dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8}
    for name, classes in (("classes", ["cat", "dog", "owl"]), ("free", [])):
        generator = GPT(GPTConfig.parse({**config, "num_classes": len(classes), "class_names": classes}))
        torch.nn.init.normal_(generator.output.weight)
        visiontok.save_pretrained(generator, folder / name)
    return folder


def run(models, *arguments, model="classes", tokenizer="tokenizer"):
    return CliRunner().invoke(app, ["generate", "--model", str(models / model), "--tokenizer", str(models / tokenizer), *map(str, arguments)])


def test_writes_pictures_a_grid_and_tokens(models, tmp_path):
    result = run(models, "--class-names", "dog,cat", "--num", 5, "--guidance", 2, "--top-k", 8, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    expected = ["00000-class-0001.png", "00001-class-0000.png", "00002-class-0001.png", "00003-class-0000.png", "00004-class-0001.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*expected, "grid.png", "tokens.npz"]
    with Image.open(tmp_path / "out" / expected[0]) as picture:
        assert picture.size == (16, 16)
    saved = TokenFile.read(tmp_path / "out" / "tokens.npz")
    assert saved.labels == (1, 0, 1, 0, 1)
    assert saved.keys == tuple(name.removesuffix(".png") for name in expected)
    with Image.open(tmp_path / "out" / expected[3]) as picture:
        decoded = visiontok.from_pretrained(models / "tokenizer").decode(saved.tokens[3:4])[0]
        assert np.array_equal(np.asarray(picture), (decoded * 255).round().byte().permute(1, 2, 0).numpy())


def test_the_seed_alone_decides(models, tmp_path):
    for name, seed, batch in (("a", 3, 4), ("b", 3, 3), ("c", 4, 4)):
        assert run(models, "--seed", seed, "--batch-size", batch, "--num", 7, "-o", tmp_path / name).exit_code == 0
    a, b, c = (TokenFile.read(tmp_path / name / "tokens.npz").tokens.indices for name in "abc")
    assert (a == b).all()
    assert (a != c).any()
    assert (tmp_path / "a" / "grid.png").read_bytes() == (tmp_path / "b" / "grid.png").read_bytes()


def test_unconditional(models, tmp_path):
    assert run(models, "--num", 2, "-o", tmp_path, model="free").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.png", "00001.png", "grid.png", "tokens.npz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "0,3"], "'3'; expected numbers from 0 to 2"),
        (["--classes", "cat"], "'cat'; expected numbers"),
        (["--class-names", "cta"], "Did you mean cat"),
        (["--classes", "0", "--class-names", "cat"], "not both"),
        (["--steps", "4"], "--steps does not apply"),
        (["--temperature", "0"], "temperature"),
    ],
)
def test_wrong_options_are_one_paragraph(models, tmp_path, arguments, message):
    result = run(models, *arguments, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_models_that_do_not_belong_together(models, tmp_path):
    swapped = run(models, "-o", tmp_path, model="tokenizer", tokenizer="classes")
    assert (swapped.exit_code, "is a tokenizer" in swapped.output) == (1, True)
    other = visiontok.from_pretrained(models / "tokenizer").config.replace(num_latent_tokens=5).to_dict()
    visiontok.save_pretrained(visiontok.create("titok", **other), tmp_path / "other")
    result = run(models, "-o", tmp_path / "out", tokenizer=tmp_path / "other")
    assert result.exit_code == 1
    assert "another layout" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_help_shows_examples():
    result = CliRunner().invoke(app, ["generate", "--help"])
    assert result.exit_code == 0
    assert "visiontok generate --model maskgit-titok-l32 --tokenizer titok-l32" in result.output
