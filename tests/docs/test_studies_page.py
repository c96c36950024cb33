"""The page of studies says what their results say."""

from __future__ import annotations

from pathlib import Path

import pytest

from visiontok.studies import StudyResult, list_studies
from visiontok.studies.page import studies_page
from visiontok.studies.statistics import findings

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "eval" / "results" / "studies"


def test_the_page_is_up_to_date():
    """If not: visiontok study --page docs/studies.md"""
    assert (ROOT / "docs" / "studies.md").read_text(encoding="utf-8") == studies_page(RESULTS)


def numbers(finding: object, name: str = "") -> dict[str, object]:
    """Every leaf of a finding by its path."""
    if not isinstance(finding, dict | list | tuple):
        return {name: finding}
    parts = finding.items() if isinstance(finding, dict) else enumerate(finding)
    return {path: leaf for key, part in parts for path, leaf in numbers(part, f"{name}/{key}").items()}


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_the_findings_follow_from_the_runs(path: Path):
    result = StudyResult.load(path)
    assert result.name in list_studies()
    for told, computed in zip(result.findings, findings(result.study, result.runs), strict=True):
        assert numbers(told.to_dict()) == pytest.approx(numbers(computed.to_dict()))
