from pathlib import Path

import pytest
from grey_patches import GreyPatches, GreyPatchesConfig

from visiontok.base.errors import EvaluationError
from visiontok.evaluation import Suite, evaluate_suite
from visiontok.evaluation.reconstruction.examples import show_examples
from visiontok.evaluation.reconstruction.report import Measured, write_run_report
from visiontok.evaluation.reconstruction.run import Measurement
from visiontok.evaluation.results.leaderboard import leaderboard
from visiontok.evaluation.results.report.curves import rate_distortion_plots

SUITE = Suite.parse({"name": "rates", "data": {"name": "shapes"}, "num_samples": 12, "metrics": ["psnr", "codebook", "rate"], "lengths": [4, 16, 64]})
ORDERED = GreyPatchesConfig(ordered=True)


@pytest.fixture(scope="module")
def measured() -> Measured:
    measurement = Measurement(SUITE, GreyPatches(ORDERED), name="ordered")
    result, evidence = measurement.run()
    return Measured(result, evidence, show_examples(measurement, result, evidence))


def test_every_length_has_its_numbers(measured: Measured) -> None:
    result = measured.result
    for length in (4, 16, 64):
        assert result.value("tokens_per_image", length=length).value == length
        assert measured.evidence.code_counts[f"grid at {length} tokens"].sum() == 12 * length
    whole = evaluate_suite(SUITE.replace(lengths=[]), GreyPatches(ORDERED), name="ordered")
    assert result.value("psnr.mean_db", length=64).value == whole.value("psnr.mean_db").value
    assert result.value("psnr.mean_db", length=4).value < whole.value("psnr.mean_db").value
    column = measured.evidence.per_image["psnr.mean_db at 4 tokens"]
    assert column.mean() == result.value("psnr.mean_db", length=4).value


def test_curves_tables_and_pictures_at_every_length(measured: Measured, tmp_path: Path) -> None:
    titles = {plot.title: plot for plot in rate_distortion_plots([measured.result])}
    x, y = titles["psnr.mean_db against tokens per image"].series["ordered"]
    assert x == [4, 16, 64]
    assert y == [measured.result.value("psnr.mean_db", length=length).value for length in (4, 16, 64)]
    write_run_report(tmp_path / "run.html", [measured])
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert page.count('<th scope="col">16 tokens</th>') == 1
    for length in (4, 16, 64):
        assert f">{length} tokens<" in page
    measured.result.save(tmp_path / "r.json")
    assert "`ordered`, first 16 tokens" in leaderboard(tmp_path)


def test_lengths_that_a_model_does_not_have() -> None:
    with pytest.raises(EvaluationError, match="asks for 4 tokens, which grey cannot write; its lengths are 64"):
        evaluate_suite(SUITE, GreyPatches(), name="grey")
    with pytest.raises(EvaluationError, match="asks for 65 tokens"):
        evaluate_suite(SUITE.replace(lengths=[65]), GreyPatches(ORDERED), name="grey")
