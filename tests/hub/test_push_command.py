from __future__ import annotations

from pathlib import Path

import torch
from hub_server import HubServer
from typer.testing import CliRunner

import visiontok
from visiontok.cli import app
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.evaluation.results.identity import model_identity
from visiontok.evaluation.results.result import DataIdentity, Environment, Result, Run


def test_push(hub: HubServer, tmp_path: Path) -> None:
    visiontok.save_pretrained(visiontok.create("tiny"), tmp_path / "gray")
    result = CliRunner().invoke(app, ["push", str(tmp_path / "gray"), "me/gray", "--token", "hf_token"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{hub.url}/me/gray/commit/{hub.repos['me/gray'].refs['main']}\n"
    assert visiontok.from_pretrained("me/gray", cache_dir=tmp_path / "cache").config.codes == 4


def test_refused(hub: HubServer, tmp_path: Path) -> None:
    visiontok.save_pretrained(visiontok.create("tiny"), tmp_path / "gray")
    hub.refuse_commits = 403
    result = CliRunner().invoke(app, ["push", str(tmp_path / "gray"), "me/gray", "--token", "hf_token"])
    assert result.exit_code == 1
    assert "me/gray" in result.stderr


def test_results_reach_the_card(hub: HubServer, tmp_path: Path) -> None:
    model = visiontok.create("tiny")
    visiontok.save_pretrained(model, tmp_path / "run" / "final")
    psnr = MetricValue(metric="psnr", name="psnr.mean_db", title="PSNR", value=20.25, unit="dB", count=4, protocol="8-bit RGB")
    undefined = MetricValue(metric="ssim", name="ssim", title="SSIM", value=None, count=4, protocol="")
    result = Result(
        kind="reconstruction",
        suite={"name": "digits"},
        model=model_identity(model, "final"),
        data=DataIdentity(config={}, identity="", samples=4, size=(8, 8), samples_sha256=""),
        values=(psnr, undefined),
        environment=Environment(versions={}, hardware={}),
        run=Run(started="", finished="", seconds=1.0, processes=1),
    )
    result.save(tmp_path / "result.json")
    arguments = ["push", str(tmp_path / "run"), "me/gray", "--token", "hf_token", "--result", str(tmp_path / "result.json")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    card = hub.repos["me/gray"].head["README.md"].decode()
    assert f"| PSNR ({psnr.label}) | 20.25 dB | digits (4 samples of 8 x 8) | 8-bit RGB |" in card
    local = (tmp_path / "run" / "final" / "README.md").read_text()
    assert card == local.replace("# final", "# me/gray").replace('from_pretrained("final")', 'from_pretrained("me/gray")') != local

    with torch.no_grad():
        model.encoder.weight += 1
    visiontok.save_pretrained(model, tmp_path / "run" / "final")
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert psnr.label in refused.stderr
