from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import visiontok
from visiontok.cli import app
from visiontok.evaluation import METRICS
from visiontok.evaluation.metrics import registry
from visiontok.evaluation.reconstruction.collapse import CollapseCheck
from visiontok.evaluation.reconstruction.rate_distortion import RateDistortion
from visiontok.evaluation.reconstruction.run import ReconstructionRun

VIT = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
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
    arguments = ["digits", "-m", models["ordered"], "--fixed", models["plain"], "--lengths", "4,1,2", "--examples", "2", "-o", str(tmp_path)]
    code, out, err = run(
        *arguments, "--set", "num_samples=20", "--set", "metrics=[psnr,ssim]", "--set", "extractors=[]", "--set", "bootstrap.resamples=100"
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


FEW = ("--set", "num_samples=20", "--set", "metrics=[psnr,ssim]", "--set", "extractors=[]", "--set", "bootstrap.resamples=100", "--examples", "2")


def test_failures_and_warnings_are_on_the_page_and_on_the_terminal(models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> list:
        raise ZeroDivisionError("by the number of samples")

    monkeypatch.setattr(registry, "METRICS", {**METRICS, "ssim": replace(METRICS["ssim"], aggregate=broken)})
    monkeypatch.setattr(CollapseCheck, "warnings", lambda self: ("all samples have the same tokens",))
    code, out, err = run("digits", "-m", models["ordered"], "--lengths", "1,4", *FEW, "-o", str(tmp_path))
    assert code == 1
    assert "psnr.mean_db" in out
    page, line = (tmp_path / "digits-rd.html").read_text(), "ZeroDivisionError: by the number of samples"
    for text in (page, err):
        assert line in text
        assert "all samples have the same tokens" in text
    assert page.index("Warnings") < page.index("<img") < page.index(line)
    (result,) = RateDistortion.load(tmp_path / "digits-rd.json").curves[0].results
    assert line in result.failed["ssim"]


def test_a_killed_command_goes_on_and_keeps_what_was_finished(models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The second model cannot be evaluated at first: the first is then not evaluated again."""
    arguments = ("digits", "-m", models["ordered"], "--fixed", models["plain"], "--lengths", "1,4", *FEW)
    assert run(*arguments, "-o", str(tmp_path / "whole"))[0] == 0
    evaluated: list[str] = []
    original = ReconstructionRun.run

    def broken_at_the_second(self, **options):
        if self._name in evaluated or self._name == models["plain"]:
            raise KeyboardInterrupt
        evaluated.append(self._name)
        return original(self, **options)

    output = ("-o", str(tmp_path / "parts"))
    with monkeypatch.context() as patch:
        patch.setattr(ReconstructionRun, "run", broken_at_the_second)
        assert CliRunner().invoke(app, ["evaluate", "rd", *arguments, *output]).exit_code != 0
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [".run-state"]
    with monkeypatch.context() as patch:
        patch.setattr(ReconstructionRun, "run", lambda self, **options: evaluated.append(self._name) or original(self, **options))
        assert run(*arguments, *output)[0] == 0
    assert evaluated == [models["ordered"], models["plain"]]
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["digits-rd.html", "digits-rd.json"]
    curves = [RateDistortion.load(tmp_path / folder / "digits-rd.json").curves for folder in ("whole", "parts")]
    for whole, parts in zip(*curves, strict=True):
        assert [result.reproducible() for result in whole.results] == [result.reproducible() for result in parts.results]


def test_repeat_evaluates_every_curve_again(models: dict[str, str], tmp_path: Path):
    assert run("digits", "-m", models["ordered"], "--fixed", models["plain"], "--lengths", "1,4", *FEW, "-o", str(tmp_path))[0] == 0
    result = tmp_path / "digits-rd.json"

    def again() -> tuple[int, str]:
        done = CliRunner().invoke(app, ["evaluate", "--repeat", str(result)])
        return done.exit_code, done.stdout

    assert again() == (0, "Nothing changed.\n")
    values = json.loads(result.read_text())
    values["curves"][1]["results"][0]["values"][0]["value"] = 1.5
    result.write_text(json.dumps(values))
    code, out = again()
    assert code == 1
    assert f"{models['plain']}: psnr.mean_db: 1.5 -> " in out
    assert "1 values changed, 0 other entries." in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits"], "name at least one tokenizer"),
        (["digits", "-m", "PLAIN", "--lengths", "1,2"], "draw it as one point with --fixed"),
        (["digits", "-m", "ORDERED", "--lengths", "1,two"], "positive whole numbers"),
        (["digits", "-m", "ORDERED", "--lengths", "0,1"], "positive whole numbers"),
        (["digits", "-m", "PLAIN", "--max-loss", "0.1"], "always writes 4 tokens"),
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
