"""`visiontok study` around what it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from visiontok.cli import app

TINY = Path(__file__).parents[1] / "studies" / "tiny_study.yaml"


def test_without_a_name_the_studies_are_listed():
    result = CliRunner().invoke(app, ["study"])
    assert result.exit_code == 0
    assert "latent-perturbation" in result.stdout


def test_a_study_leaves_its_numbers_its_report_and_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["study", str(TINY), "--seeds", "3", "-o", "results", "--page", "page.md"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0].split() == ["data", "statistic", "value", "reading", "over"]
    assert (tmp_path / "results" / "tiny_study.json").is_file()
    assert (tmp_path / "results" / "tiny_study.html").is_file()
    assert "## A tiny study" in (tmp_path / "page.md").read_text()
    assert (tmp_path / "runs" / "studies" / "tiny_study" / "digits" / "vq" / "seed-3" / "run.json").is_file()


def test_seeds_that_are_no_numbers_are_one_paragraph():
    result = CliRunner().invoke(app, ["study", str(TINY), "--seeds", "one"])
    assert result.exit_code == 1
    assert "not a list of whole numbers" in result.stderr
