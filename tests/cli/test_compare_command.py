import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import visiontok
from visiontok.cli import app
from visiontok.evaluation import Result
from visiontok.generators.gpt.model import GPT, GPTConfig

VIT = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
FEW = ("--set", "num_samples=70", "--set", "bootstrap.resamples=100", "--set", "metrics=[psnr,codebook,rate]", "--no-report")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        quantizer = {"type": "vq", "codebook_size": 64, "dim": 4}
        tokenizer = visiontok.create("titok", image_size=16, num_latent_tokens=4, encoder=VIT, decoder=VIT, quantizer=quantizer)
        visiontok.save_pretrained(tokenizer, folder / name)
    generator = GPT(
        GPTConfig.parse(
            {"layout": tokenizer.layout, "dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8, "condition": {"type": "classes", "num_classes": 10}}
        )
    )
    visiontok.save_pretrained(generator, folder / "generator")
    return folder


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def results(models: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("results")
    for name in "ab":
        code, _, err = run("evaluate", "digits", "-m", models / name, "-o", folder / f"{name}.json", *FEW)
        assert code == 0, err
    return [folder / f"{name}.json" for name in "ab"]


def test_compare(results: list[Path], tmp_path: Path) -> None:
    code, out, err = run("compare", *results)
    assert code == 0, err
    line = next(line for line in out.splitlines() if line.startswith("psnr.mean_db"))
    assert "paired bootstrap over 70 samples" in line
    assert "better" in line or "no significant difference" in line
    assert "nothing is corrected" in out
    alone = [tmp_path / path.name for path in results]  # without the values of single samples
    for source, target in zip(results, alone, strict=True):
        target.write_bytes(source.read_bytes())
    assert "whether the two intervals overlap" in run("compare", *alone)[1]


def test_compare_refuses(models: Path, results: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    assert run("evaluate", "digits", "-m", models / "a", "-o", other, *FEW, "--set", "num_samples=60")[0] == 0
    code, out, err = run("compare", results[0], other)
    assert (code, out) == (1, "")
    assert "70 samples of 16 x 16" in err
    assert "60 samples" in err
    assert run("compare", results[0], tmp_path / "none.json")[0] == 1


def test_repeat_says_what_changed(models: Path, results: list[Path], tmp_path: Path) -> None:
    code, out, err = run("evaluate", "--repeat", results[0])
    assert (code, out) == (0, "Nothing changed.\n"), err
    before = json.loads(results[0].read_text())
    before["environment"]["versions"]["torch"] = "1.0"
    (tmp_path / "old.json").write_text(json.dumps(before))
    code, out, _ = run("evaluate", "--repeat", tmp_path / "old.json")
    assert code == 0
    assert f"environment.versions.torch: 1.0 -> {version('torch')}" in out
    code, out, _ = run("evaluate", "--repeat", results[0], "-m", models / "b")
    assert code == 1
    assert "psnr.mean_db: " in out
    assert "model.weights_sha256: " in out
    assert run("evaluate", "digits", "--repeat", results[0])[0] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "my-study", "study": {}, "runs": []}, "run it again with: visiontok study my-study"),
        ({"kind": "benchmark"}, "is of the unknown kind 'benchmark'; --repeat takes a JSON file that `visiontok evaluate` wrote"),
        ({"format": 1}, "has no kind"),
        ([1, 2], "has no kind"),
    ],
)
def test_repeat_says_what_it_cannot_repeat_and_what_to_do_instead(content: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(content))
    code, out, err = run("evaluate", "--repeat", tmp_path / "r.json")
    assert (code, out) == (1, "")
    assert message in " ".join(err.split())


def test_studies_as_they_are_saved_are_told_from_results() -> None:
    study = next((Path(__file__).parents[2] / "eval" / "results" / "studies").glob("*.json"))
    assert f"visiontok study {study.stem}" in " ".join(run("evaluate", "--repeat", study)[2].split())


def test_several_results_on_one_page(models: Path, results: list[Path], tmp_path: Path) -> None:
    third = tmp_path / "c.json"
    assert run("evaluate", "digits", "-m", models / "b", "-o", third, *FEW)[0] == 0
    code, out, err = run("compare", *results, third, "--report", tmp_path / "page.html")
    assert code == 0, err
    assert out.count("second minus first") == 2
    page = (tmp_path / "page.html").read_text()
    assert "PSNR against bits per pixel at the entropy of the codes" in page
    assert page.count("<table") >= 3
    assert run("compare", results[0])[0] == 1


def test_generated_samples_are_evaluated_and_not_sampled_again(models: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", "digits-generation", "-m", models / "generator", "-t", models / "b", "--samples", tmp_path / "s.npz")
    few = ("--set", "num_samples=80", "-o", tmp_path / "r.json")
    code, out, err = run(*arguments, *few)
    assert code == 0, err
    assert "FD[digit-classifier]" in out
    first = Result.load(tmp_path / "r.json")
    page = (tmp_path / "r.html").read_text()
    assert "class 9" in page
    assert page.count("<img") == 80
    assert "http" not in page.replace("http://www.w3.org", "")
    written = (tmp_path / "s.npz").stat().st_mtime_ns
    assert run(*arguments, *few)[0] == 0
    assert (tmp_path / "s.npz").stat().st_mtime_ns == written
    assert Result.load(tmp_path / "r.json").reproducible() == first.reproducible()
    assert first.sampling["num_samples"] == 80
    assert first.value("conditional_accuracy[digit-classifier]").count == 80
    code, out, err = run("evaluate", "--repeat", tmp_path / "r.json", "--samples", tmp_path / "s.npz")
    assert (code, out) == (0, "Nothing changed.\n"), err
    code, _, err = run("evaluate", "digits-generation", "--samples", tmp_path / "s.npz", *few)
    assert code == 0, err
    assert Result.load(tmp_path / "r.json").generated_sha256 == first.generated_sha256


def test_several_seeds_and_again(models: Path, tmp_path: Path) -> None:
    result = tmp_path / "r.json"
    drawn = ("-m", models / "generator", "-t", models / "b", "--samples", tmp_path / "s.npz")
    code, out, err = run("evaluate", "digits-generation", *drawn, "--set", "num_samples=70", "--set", "seeds=[0,1]", "-o", result)
    assert code == 0, err
    assert "over 2 seeds" in out
    assert {"s-seed0.npz", "s-seed1.npz"} < {path.name for path in tmp_path.iterdir()}
    both = Result.load(result)
    distance = both.value("FD[digit-classifier]")
    assert distance.value == pytest.approx(sum(distance.seeds.values.values()) / 2)
    assert distance.seeds.deviation > 0
    assert "By seed" in (tmp_path / "r.html").read_text()
    code, out, err = run("evaluate", "--repeat", result)  # samples once more, elsewhere
    assert (code, out) == (0, "Nothing changed.\n"), err
    code, out, err = run("compare", result, result)
    assert code == 0, err
    assert run("evaluate", "digits-generation", "--samples", tmp_path / "s.npz", "--set", "seeds=[0,1]")[0] == 1


def test_repeating_what_was_given_needs_it_again(models: Path, tmp_path: Path) -> None:
    arrays = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "given.npz", arrays)
    few = ("--set", "num_samples=70", "--samples", tmp_path / "given.npz", "-o", tmp_path / "r.json")
    assert run("evaluate", "digits-generation", *few)[0] == 0
    code, _, err = run("evaluate", "--repeat", tmp_path / "r.json")
    assert code == 1
    assert "--samples" in err
    np.savez(tmp_path / "given.npz", 255 - arrays)
    code, out, _ = run("evaluate", "--repeat", tmp_path / "r.json", "--samples", tmp_path / "given.npz")
    assert code == 1
    assert "FD[digit-classifier]: " in out
    assert "generated_sha256: " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a suite"),
        (("digits",), "name at least one model"),
        (("digits", "-m", "x", "--samples", "y"), "belong to suites of generated samples"),
        (("digits-generation",), "give --samples"),
        (("digits-generation", "-m", "x"), "needs --tokenizer"),
        (("digits-generation", "--samples", "nowhere"), "no samples in nowhere"),
        (("digits", "-m", "x", "--set", "metrics=[pnsr]"), "Did you mean psnr"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    code, out, err = run("evaluate", *arguments, "-o", tmp_path)
    assert (code, out) == (1, "")
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_leaderboard_command(results: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    assert run("leaderboard", results[0].parent, "-o", page, "--check")[0] == 1
    assert run("leaderboard", results[0].parent, "-o", page)[0] == 0
    assert run("leaderboard", results[0].parent, "-o", page, "--check")[0] == 0
