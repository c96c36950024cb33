"""A study from training to report: what is reused, what resumes, and what is written."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

import visiontok.studies.arms
from visiontok.base.errors import EvaluationError
from visiontok.studies import Study, StudyResult, load_study, run_study
from visiontok.studies.page import studies_page
from visiontok.studies.report import write_study

TINY = Path(__file__).parent / "tiny_study.yaml"


def run_tiny(root: Path, overrides: tuple[str, ...] = (), **options: object) -> tuple[StudyResult, str]:
    output = io.StringIO()
    result = run_study(load_study(TINY, overrides), name="tiny", root=root, console=Console(file=output, width=200), **options)  # type: ignore[arg-type]
    return result, output.getvalue()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyResult]:
    root = tmp_path_factory.mktemp("study")
    return root, run_tiny(root, seeds=[0])[0]


@pytest.fixture
def copy(done: tuple[Path, StudyResult], tmp_path: Path) -> Path:
    return Path(shutil.copytree(done[0], tmp_path / "runs"))


def test_every_arm_and_its_generator_are_evaluated(done: tuple[Path, StudyResult]):
    result = done[1]
    assert [(run.data, run.arm, run.seed) for run in result.runs] == [("digits", "vq", 0), ("digits", "fsq", 0)]
    for run in result.runs:
        assert {"psnr.mean_db", "FD[digit-classifier]", "generated FD[digit-classifier]"} <= set(run.values)
        assert set(run.weights_sha256) == {"tokenizer", "generator"}
    assert len({run.weights_sha256["tokenizer"] for run in result.runs}) == 2


def test_complete_runs_are_reused_with_another_seed(copy: Path, monkeypatch: pytest.MonkeyPatch):
    trained = []
    real = visiontok.studies.arms.train
    monkeypatch.setattr(visiontok.studies.arms, "train", lambda recipe, **options: trained.append(recipe.seed) or real(recipe, **options))
    result, output = run_tiny(copy, ("arms.fsq.overrides=[]",))
    assert set(trained) == {1}
    assert output.count(": complete") == 2
    assert [run.seed for run in result.runs] == [0, 0, 1, 1]
    assert result.findings[0].count == 2


def test_a_killed_run_resumes_from_its_checkpoint_with_the_same_result(done: tuple[Path, StudyResult], copy: Path):
    folder = copy / "digits" / "vq" / "seed-0"
    (folder / "run.json").unlink()
    shutil.rmtree(folder / "generator")
    shutil.rmtree(folder / "tokenizer" / "final")
    shutil.rmtree(folder / "tokenizer" / "checkpoints" / "step-00000006")
    result, output = run_tiny(copy, seeds=[0])
    assert "resuming from step 3" in output
    before, after = (study.runs[0].to_dict() | {"seconds": 0} for study in (done[1], result))
    assert after == before


def test_complete_runs_of_another_definition_are_refused(copy: Path):
    with pytest.raises(EvaluationError, match=re.escape(str(copy))):
        run_tiny(copy, ("data.digits.generation.num_samples=80",), seeds=[0])


def test_an_interrupted_training_ends_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = visiontok.studies.arms.train

    def interrupted(recipe, **options):
        from dataclasses import replace

        return replace(real(recipe, **options), final=None)

    monkeypatch.setattr(visiontok.studies.arms, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_tiny(tmp_path, seeds=[0])
    assert not list(tmp_path.rglob("run.json"))


def test_a_quantized_arm_reuses_the_training_of_another(tmp_path: Path):
    values = load_study(TINY).to_dict()
    values["arms"] = {"continuous": {"recipe": "small/kl-vae", "overrides": []}, "levels-4": {"quantizes": "continuous", "levels": 4}}
    values["generator"], values["data"]["digits"]["generation"] = None, None
    values["comparisons"] = [{"type": "difference", "question": "?", "metric": "psnr.mean_db", "arms": ["continuous", "levels-4"]}]
    result = run_study(type(load_study(TINY)).parse(values), name="levels", root=tmp_path, seeds=[0], console=Console(file=io.StringIO()))
    assert not (tmp_path / "digits" / "levels-4" / "seed-0" / "tokenizer").exists()
    assert "codebook" in result.runs[0].omitted
    assert any(name.startswith("codebook.usage") for name in result.runs[1].values)
    assert result.findings[0].value != 0


def test_the_result_is_read_back_and_shown_on_page_and_report(done: tuple[Path, StudyResult], tmp_path: Path):
    root, result = done
    result.save(tmp_path / "tiny.json")
    assert StudyResult.load(tmp_path / "tiny.json") == result
    assert json.loads((tmp_path / "tiny.json").read_text())["findings"]
    write_study(tmp_path / "tiny.html", result, root=root)
    page, report = studies_page(tmp_path), (tmp_path / "tiny.html").read_text()
    number = f"{result.runs[0].values['psnr.mean_db']:.4g}"
    for text in (page, report):
        assert number in text
        assert "Which is sharper?" in text
        assert "FD[digit-classifier]" in text
    assert report.count("<img") == 4  # originals above reconstructions, and samples, of both arms
    assert "<svg" not in report  # the correlation has two points, which are a table
    assert not re.findall(r'(?:src|href)="(?!data:|#)', report)


def test_failures_and_warnings_of_runs_are_on_the_report(done: tuple[Path, StudyResult], tmp_path: Path):
    root, result = done
    noted = {"failed": {"ssim": "out of memory"}, "warnings": ("all samples have the same tokens",)}
    runs = tuple(run.model_copy(update=noted) for run in result.runs)
    write_study(tmp_path / "tiny.html", result.model_copy(update={"runs": runs}), root=root)
    report, arm = (tmp_path / "tiny.html").read_text(), f"{runs[0].data}, {runs[0].arm}"
    seeds = ", ".join(str(run.seed) for run in runs if run.arm == runs[0].arm)
    assert f"{arm}: ssim: out of memory (seed{'s' if ',' in seeds else ''} {seeds})" in report
    assert report.count(f"{arm}: all samples have the same tokens") == 1


def test_a_trend_is_drawn_over_the_lengths_of_every_seed(tmp_path: Path):
    values = load_study(TINY).to_dict()
    net = "{dim: 16, depth: 1, num_heads: 2, patch_size: 8}"
    nested = [
        "model.config.num_latent_tokens=4",
        f"model.config.encoder={net}",
        f"model.config.decoder={net}",
        "model.config.nested_dropout.schedule=uniform",
    ]
    values["arms"] = {"nested": {"recipe": "demo/titok-digits", "overrides": nested}}
    values["generator"], values["data"]["digits"]["generation"] = None, None
    values["data"]["digits"]["reconstruction"] |= {"metrics": ["psnr"], "extractors": [], "lengths": [1, 4]}
    values["comparisons"] = [{"type": "trend", "question": "Does it rise?", "metric": "psnr.mean_db", "arm": "nested"}]
    study = type(load_study(TINY)).parse(values)
    result = run_study(study, name="lengths", root=tmp_path, console=Console(file=io.StringIO()))
    assert set(result.findings[0].single) == {0, 1}
    write_study(tmp_path / "lengths.html", result, root=tmp_path)
    report = (tmp_path / "lengths.html").read_text()
    assert "PSNR ↑ (dB), nested" in report
    assert "seed 0</span>" in report
    assert "seed 1</span>" in report


def miniature(name: str) -> Study:
    """A bundled study on a few digits with one seed and a few steps of training."""
    values = load_study(name).to_dict()
    short = ["steps=3", "batch_size=8", "sample_images.every=0"]
    values["seeds"], values["data"] = [0], {"digits": values["data"]["digits"]}
    values["data"]["digits"]["overrides"] = [*values["data"]["digits"]["overrides"], "data.source=digits:test"]
    values["data"]["digits"]["reconstruction"] |= {"num_samples": 70, "batch_size": 70}
    values["data"]["digits"]["generation"] |= {"num_samples": 70, "batch_size": 70}
    for arm in [*values["arms"].values(), *([values["generator"]] if values["generator"] else [])]:
        if "recipe" in arm:
            arm["overrides"] = [*arm["overrides"], *short]
        if "sampling" in arm:
            arm["sampling"] |= {"top_k": 1}  # after so few steps there is little to guide
    return Study.parse(values)


@pytest.mark.parametrize(
    "name",
    [
        "guidance",
        pytest.param("generation-orders", marks=pytest.mark.slow),
        pytest.param("dimension-wise-heads", marks=pytest.mark.slow),
        pytest.param("reconstruction-and-generation", marks=pytest.mark.slow),
    ],
)
def test_a_miniature_of_a_study_of_generators_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trained = []
    real = visiontok.studies.arms.train
    monkeypatch.setattr(visiontok.studies.arms, "train", lambda recipe, **options: trained.append(recipe.output) or real(recipe, **options))
    study = miniature(name)
    result = run_study(study, name=name, root=tmp_path, console=Console(file=io.StringIO()))
    assert [run.arm for run in result.runs] == list(study.arms)
    assert all(finding.value is not None for finding in result.findings)
    expected = set()
    for run in result.runs:
        parts = study.parts(run.arm)
        owner = next(other for other in result.runs if other.arm == parts.owner)
        assert run.weights_sha256 == owner.weights_sha256  # nothing is trained twice
        has_samples = run.arm != parts.owner
        assert (run.values.get("generated FD[digit-classifier]") != owner.values.get("generated FD[digit-classifier]")) == has_samples
        tokenizer = study.arms[parts.tokenizer]
        expected.add(getattr(tokenizer, "quantizes", parts.tokenizer) + "/seed-0/tokenizer")
        if parts.generator is not None:
            expected.add(f"{parts.owner}/seed-0/generator")
    assert {str(output.relative_to(tmp_path / "digits")) for output in trained} == expected
    write_study(tmp_path / "report.html", result, root=tmp_path)
    assert (tmp_path / "report.html").read_text().count("<img") == sum(study.parts(arm).generator is not None for arm in study.arms)
