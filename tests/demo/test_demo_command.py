"""`visiontok demo` around what it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import visiontok.demo
from visiontok.cli import app
from visiontok.demo import DemoConfig, DemoOutcome, DemoTarget


@pytest.mark.parametrize(("value", "code", "outcome"), [(19.0, 0, "reached"), (17.0, 1, "missed")])
def test_the_metrics_are_printed_and_a_missed_target_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: float, code: int, outcome: str
) -> None:
    calls = []

    def finished(folder: Path, config: DemoConfig) -> DemoOutcome:
        calls.append((folder, config.seed))
        return DemoOutcome(folder / "report.html", (DemoTarget("PSNR", value, 18, "at least", "dB", ""),), {})

    monkeypatch.setattr(visiontok.demo, "run_demo", finished)
    result = CliRunner().invoke(app, ["demo", str(tmp_path), "--seed", "3"])
    assert calls == [(tmp_path, 3)]
    assert result.exit_code == code
    assert result.stdout.splitlines()[1].split() == ["PSNR", f"{value:g}", "dB", "at", "least", "18", "dB", outcome]
    assert str(tmp_path / "report.html") in result.stdout


def test_a_folder_with_other_files_is_one_paragraph_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    result = CliRunner().invoke(app, ["demo", str(tmp_path)])
    assert result.exit_code == 1
    assert str(tmp_path) in result.stderr.replace("\n", "")
