"""`visiontok study` around what it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import refused, succeed

from visiontok.base.errors import ConfigError

TINY = Path(__file__).parents[1] / "studies" / "tiny_study.yaml"


def test_without_a_name_the_studies_are_listed():
    assert "latent-perturbation" in succeed("study").stdout


def test_a_study_writes_its_results_its_report_and_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = succeed("study", TINY, "--seeds", "3", "-o", "results", "--page", "page.md")
    assert result.stdout.splitlines()[0].split() == ["data", "statistic", "value", "reading", "over"]
    assert (tmp_path / "results" / "tiny_study.json").is_file()
    assert (tmp_path / "results" / "tiny_study.html").is_file()
    assert "## A tiny study" in (tmp_path / "page.md").read_text()
    assert (tmp_path / "runs" / "studies" / "tiny_study" / "digits" / "vq" / "seed-3" / "run.json").is_file()


def test_seeds_that_are_no_integers():
    error = refused("study", TINY, "--seeds", "one")
    assert isinstance(error, ConfigError)
    assert "'one'" in str(error)
