from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import visiontok
from visiontok.cli import app

VIT = {"width": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
TITOK = {"image_size": 16, "num_latent_tokens": 4, "encoder": VIT, "decoder": VIT, "quantizer": {"type": "vq", "codebook_size": 16, "dim": 4}}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One with ordered tokens and one without."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    for name, changes in (("ordered", {"nested_dropout": {"schedule": "uniform"}}), ("plain", {})):
        visiontok.save_pretrained(visiontok.create("titok", **TITOK, **changes), folder / name)
    return {name: str(folder / name) for name in ("ordered", "plain")}


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["evaluate", "rd", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_curve_and_a_point(models: dict[str, str], tmp_path: Path):
    arguments = ["digits", "-m", models["ordered"], "--fixed", models["plain"], "--lengths", "4,1,2", "--pictures", "2", "-o", str(tmp_path)]
    code, out, err = run(
        *arguments, "--set", "num_samples=20", "--set", "metrics=[psnr]", "--set", "extractors=[]", "--set", "bootstrap.resamples=100"
    )
    assert code == 0, err
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["model", "setting", "tokens", "bits", "psnr.mean_db", "ssim"]
    assert [(line[0], line[3]) for line in lines[1:]] == [
        (models["ordered"], "1"),
        (models["ordered"], "2"),
        (models["ordered"], "4"),
        (models["plain"], "4"),
    ]
    values = json.loads((tmp_path / "digits-rd.json").read_text())
    assert [curve["setting"] for curve in values["curves"]] == ["length", "none"]
    assert "<svg" in (tmp_path / "digits-rd.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits"], "name at least one tokenizer"),
        (["digits", "-m", "PLAIN", "--lengths", "1,2"], "draw it as one point with --fixed"),
        (["digits", "-m", "ORDERED", "--lengths", "1,two"], "positive whole numbers"),
        (["digits", "-m", "ORDERED", "--lengths", "0,1"], "positive whole numbers"),
        (["digits", "-m", "ORDERED", "--max-loss", "0.1"], "cannot be asked for an error"),
        (["digits", "-m", "ORDERED", "--max-loss", "0.1", "--lengths", "1"], "not both"),
        (["digit", "-m", "ORDERED"], "Did you mean digits"),
    ],
)
def test_mistakes_leave_no_file(models: dict[str, str], tmp_path: Path, arguments: list[str], message: str):
    places = {"PLAIN": models["plain"], "ORDERED": models["ordered"]}
    code, out, err = run(*[places.get(argument, argument) for argument in arguments], "-o", str(tmp_path))
    assert code == 1
    assert message in err
    assert not out
    assert not list(tmp_path.iterdir())


def test_help_names_the_command_of_two_words():
    assert "evaluate rd" in CliRunner().invoke(app, ["--help"]).stdout
    assert "--max-loss" in CliRunner().invoke(app, ["evaluate", "rd", "--help"]).stdout
    assert "--repeat" in CliRunner().invoke(app, ["evaluate", "--help"]).stdout
