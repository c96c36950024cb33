from pathlib import Path

import pytest
from gray_patches import GrayPatches, GrayPatchesConfig

from visiontok.base.errors import ConfigError, EvaluationError
from visiontok.evaluation import Suite, evaluate_suite
from visiontok.evaluation.results.leaderboard import leaderboard, write_leaderboard

ROOT = Path(__file__).parents[2]
SUITE = Suite.parse({"name": "small", "data": {"name": "shapes"}, "num_samples": 9, "metrics": ["psnr", "rate"]})


def test_the_page_of_this_repository_is_up_to_date() -> None:
    assert (ROOT / "eval" / "README.md").read_text(encoding="utf-8") == leaderboard(ROOT / "eval" / "results"), "run: visiontok leaderboard"


def test_one_table_per_suite_and_samples_and_published_figures_apart(tmp_path: Path) -> None:
    for name, suite, config in (
        ("a", SUITE, {}),
        ("titok-l32", SUITE, {"levels": 9}),
        ("c", SUITE.replace(size=32), {"size": 32}),
    ):
        result = evaluate_suite(suite, GrayPatches(GrayPatchesConfig(**config)), name=name)
        result.save(tmp_path / f"{name}.json")
    page = leaderboard(tmp_path)
    assert page.count("### small") == 2
    computed, published = page.split("### Published, not computed here")
    assert "rFID" not in computed
    assert "| `titok-l32` | rFID |" in published
    rows = [line for line in computed.splitlines() if line.startswith("| `")]
    assert len(rows) == 3
    result = evaluate_suite(SUITE, GrayPatches(), name="a")
    assert f"| {result.value('psnr.mean_db').text} |" in rows[0]
    write_leaderboard(tmp_path, tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page


def test_folders_without_results(tmp_path: Path) -> None:
    assert "no results yet" in leaderboard(tmp_path)
    with pytest.raises(EvaluationError, match="there is no folder"):
        leaderboard(tmp_path / "none")
    (tmp_path / "curves.json").write_text('{"kind": "rate-distortion"}')
    assert "no results yet" in leaderboard(tmp_path)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"other\.json"):
        leaderboard(tmp_path)
