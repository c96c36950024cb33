"""A push that is killed at a file operation or a request, and repeated, leaves the repository and the folder as an uninterrupted one does."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hub_server
import kill_harness
import pytest
from typer.testing import CliRunner

import visiontok
from visiontok.cli import app
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.evaluation.results.identity import model_identity
from visiontok.evaluation.results.result import DataIdentity, Environment, Result, Run

pytestmark = pytest.mark.skipif("fork" not in kill_harness.multiprocessing.get_all_start_methods(), reason="the server is that of this process")


def prepare(folder: Path) -> Path:
    """A model, and a result of it."""
    model = visiontok.create("tiny")
    visiontok.save_pretrained(model, folder / "model")
    Result(
        kind="reconstruction",
        suite={"name": "digits"},
        model=model_identity(model, "model"),
        data=DataIdentity(config={}, identity="", samples=4, size=(8, 8), samples_sha256=""),
        values=(MetricValue(metric="psnr", name="psnr.mean_db", title="PSNR", value=20.25, unit="dB", count=4, protocol="8-bit RGB"),),
        environment=Environment(versions={}, hardware={}),
        run=Run(started="", finished="", seconds=1.0, processes=1),
    ).save(folder / "result.json")
    return folder


def push(folder: Path) -> None:
    arguments = ["push", str(folder / "model"), f"me/{folder.name}", "--token", "hf_token", "--result", str(folder / "result.json")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output


def check(hub: hub_server.HubServer, folder: Path) -> None:
    head, files = hub.repos[f"me/{folder.name}"].head, kill_harness.files(folder / "model")
    assert set(head) == set(files) == {"README.md", "config.json", "model.safetensors"}
    assert head["model.safetensors"] == files["model.safetensors"]
    assert head["config.json"] == files["config.json"]
    assert head["README.md"].count(b"20.25 dB") == files["README.md"].count(b"20.25 dB") == 1


def test_killed_at_every_file_operation(hub: hub_server.HubServer, tmp_path: Path) -> None:
    log = kill_harness.operations(push, prepare(tmp_path / "whole"))
    check(hub, tmp_path / "whole")
    assert len(log) > 2
    for number in range(len(log)):
        folder = prepare(tmp_path / f"at-{number}")
        kill_harness.kill_and_repeat(push, folder, number)
        check(hub, folder)


def test_killed_at_every_request(hub: hub_server.HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub has received the request, and does what it says; nobody reads the answer."""
    seen: list[str] = []
    victim: dict[str, int] = {}
    parse = hub_server._Handler.parse_request

    def parse_request(handler: hub_server._Handler) -> bool:
        found = parse(handler)
        seen.append(handler.path)
        if victim.get("at") == len(seen) - 1:
            os.kill(victim["process"], signal.SIGKILL)
        return found

    monkeypatch.setattr(hub_server._Handler, "parse_request", parse_request)
    push(prepare(tmp_path / "whole"))
    requests = len(seen)
    assert requests > 2
    for number in range(requests):
        folder = prepare(tmp_path / f"at-{number}")
        seen.clear()
        kill_harness.kill(push, folder, lambda process, number=number: victim.update(process=process, at=number))
        victim.clear()
        push(folder)
        check(hub, folder)
