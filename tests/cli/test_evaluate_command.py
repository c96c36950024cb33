import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import visiontok
from visiontok.cli import app
from visiontok.evaluation import Result
from visiontok.tokenizers.image.titok.model import TiTok, TiTokConfig

VIT = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        quantizer = {"type": "vq", "codebook_size": 64, "dim": 4}
        config = {"image_size": 16, "num_latent_tokens": 4, "encoder": VIT, "decoder": VIT, "quantizer": quantizer}
        folder = tmp_path_factory.mktemp("model") / f"tiny{seed}"
        visiontok.save_pretrained(TiTok(TiTokConfig.parse(config)), folder)
        folders.append(str(folder))
    return folders


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_table_and_a_result_per_model(models: list[str], tmp_path: Path) -> None:
    code, out, err = run(
        "digits", "-m", models[0], "-m", models[1], "-o", str(tmp_path), "--set", "num_samples=70", "--set", "bootstrap.resamples=100"
    )
    assert code == 0, err
    files = sorted(tmp_path.glob("*.json"))
    assert [file.name.startswith("digits--") for file in files] == [True, True]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        ["digits.html", *(name for file in files for name in (file.name, *(f"{file.stem}.{table}.parquet" for table in ("codes", "samples"))))]
    )
    results = [Result.load(file) for file in files]
    assert [result.data.samples for result in results] == [70, 70]
    lines = out.splitlines()
    assert lines[0].split() == ["metric", "unit", *models]
    psnr = next(line for line in lines if line.startswith("psnr.mean_db"))
    for result in results:
        assert result.value("psnr.mean_db").text in psnr
    assert "digits:test: 355 samples" in err
    assert "digits:test: 70 samples of 16 x 16" in out


def test_the_file_of_one_model(models: list[str], tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    code, _, err = run("digits", "-m", models[0], "-o", str(path), "--set", "metrics=[mse]", "--set", "extractors=[]", "--device", "cpu")
    assert code == 0, err
    assert json.loads(path.read_text())["model"]["family"] == "titok"


def test_models_of_different_size_have_tables_of_their_own(models: list[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    quantizer = {"type": "vq", "codebook_size": 64, "dim": 4}
    config = {"image_size": 32, "num_latent_tokens": 4, "encoder": VIT, "decoder": VIT, "quantizer": quantizer}
    visiontok.save_pretrained(TiTok(TiTokConfig.parse(config)), tmp_path / "large")
    code, out, err = run("digits", "-m", models[0], "-m", str(tmp_path / "large"), "-o", str(tmp_path), "--set", "metrics=[psnr]")
    assert code == 0, err
    assert "355 samples of 16 x 16" in out
    assert "355 samples of 32 x 32" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digit"], "Did you mean digits"),
        (["digits", "--set", "metrics=[fid]"], "'fid'"),
        (["digits", "--set", "size"], "is not an override"),
        (["digits", "-o", "x.json", "-m", "other"], "name a folder"),
    ],
)
def test_mistakes_are_told_before_anything_is_computed(models: list[str], arguments: list[str], message: str) -> None:
    code, out, err = run(*arguments, "-m", models[0])
    assert code == 1
    assert message in err
    assert not out


def test_results_are_put_on_the_card_of_a_folder(tmp_path: Path) -> None:
    config = {"image_size": 16, "num_latent_tokens": 4, "encoder": VIT, "decoder": VIT, "quantizer": {"type": "vq", "codebook_size": 64, "dim": 4}}
    folder = visiontok.save_pretrained(TiTok(TiTokConfig.parse(config)), tmp_path / "tiny")
    settings = ["--set", "metrics=[mse]", "--set", "extractors=[]", "--set", "num_samples=40", "-o", str(tmp_path / "one.json")]
    code, _, err = run("digits", "-m", str(folder), "--card", *settings)
    assert code == 0, err
    value = Result.load(tmp_path / "one.json").value("mse")
    assert f"(mse) | {value.value:.6g} | digits (40 samples of 16 x 16) | " in (folder / "README.md").read_text()
    code, _, err = run("digits", "-m", "vqgan-photos-f4", "--card", *settings)
    assert code == 1
    assert "vqgan-photos-f4" in err
