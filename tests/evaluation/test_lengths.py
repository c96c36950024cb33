from pathlib import Path

import numpy as np
import pytest
from gray_patches import GrayPatches, GrayPatchesConfig

from visiontok.base.errors import EvaluationError
from visiontok.evaluation import Suite, evaluate_suite
from visiontok.evaluation.reconstruction.examples import show_examples
from visiontok.evaluation.reconstruction.report import ReportEntry, write_run_report
from visiontok.evaluation.reconstruction.run import ReconstructionRun
from visiontok.evaluation.results.leaderboard import leaderboard
from visiontok.evaluation.results.report.curves import rate_distortion_plots

SUITE = Suite.parse({"name": "rates", "data": {"name": "shapes"}, "num_samples": 12, "metrics": ["psnr", "codebook", "rate"], "lengths": [4, 16, 64]})
ORDERED = GrayPatchesConfig(ordered=True)


@pytest.fixture(scope="module")
def entry() -> ReportEntry:
    run = ReconstructionRun(SUITE, GrayPatches(ORDERED), name="ordered")
    result, per_sample = run.run()
    return ReportEntry(result, per_sample, show_examples(run, result, per_sample))


def test_every_length_has_its_numbers(entry: ReportEntry) -> None:
    result = entry.result
    for length in (4, 16, 64):
        assert result.value("tokens_per_sample", length=length).value == length
        assert entry.per_sample.code_counts[f"grid at {length} tokens"].sum() == 12 * length
    whole = evaluate_suite(SUITE.replace(lengths=[]), GrayPatches(ORDERED), name="ordered")
    assert result.value("psnr.mean_db", length=64).value == whole.value("psnr.mean_db").value
    assert result.value("psnr.mean_db", length=4).value < whole.value("psnr.mean_db").value
    column = entry.per_sample.per_sample["psnr.mean_db at 4 tokens"]
    assert column.mean() == result.value("psnr.mean_db", length=4).value


def test_curves_tables_and_images_at_every_length(entry: ReportEntry, tmp_path: Path) -> None:
    titles = {plot.title: plot for plot in rate_distortion_plots([entry.result])}
    x, y = titles["PSNR against tokens per sample"].series["ordered"]
    assert x == [4, 16, 64]
    assert y == [entry.result.value("psnr.mean_db", length=length).value for length in (4, 16, 64)]
    write_run_report(tmp_path / "run.html", [entry])
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert page.count('<th scope="col">16 tokens</th>') == 1
    for length in (4, 16, 64):
        assert f">{length} tokens<" in page
    entry.result.save(tmp_path / "r.json")
    assert "`ordered`, first 16 tokens" in leaderboard(tmp_path)


def test_lengths_that_a_model_does_not_have() -> None:
    with pytest.raises(EvaluationError, match=r"4 tokens.*64"):
        evaluate_suite(SUITE, GrayPatches(), name="gray")
    with pytest.raises(EvaluationError, match="65 tokens"):
        evaluate_suite(SUITE.replace(lengths=[65]), GrayPatches(ORDERED), name="gray")


def test_as_few_tokens_as_reach_a_target_error() -> None:
    model = GrayPatches(ORDERED)
    suite = Suite.parse({"name": "target", "data": {"name": "shapes"}, "num_samples": 12, "metrics": ["psnr", "rate"], "max_loss": 0.1})
    per_sample = ReconstructionRun(suite, model, name="ordered").run()[1]
    strict = ReconstructionRun(suite.replace(max_loss=0.05), model, name="ordered").run()[1]
    loose, tight = per_sample.per_sample["tokens_per_sample"], strict.per_sample["tokens_per_sample"]
    assert np.all(loose <= tight)
    assert 0 < loose.mean() < tight.mean() < 64
    with pytest.raises(EvaluationError, match="always writes 64 tokens"):
        evaluate_suite(suite, GrayPatches(), name="whole")
