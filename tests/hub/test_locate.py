"""What a user may call a model: a name in any case, a folder, a training run, a repository, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hub_server import HubServer
from typer.testing import CliRunner

import visiontok
from visiontok.base.errors import CheckpointError, ConfigError, HubError, UnknownNameError
from visiontok.cli import app
from visiontok.hub import ModelCard, add_results


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `runs/mine` of a finished run, seen from its parent's folder."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/mine")
    visiontok.save_pretrained(visiontok.create("tiny"), folder / "final", card=ModelCard(license="mit"))
    (folder / "config.json").write_text(json.dumps({"recipe": {"steps": 3}}))
    return folder


def test_a_run_is_its_final_model(run: Path) -> None:
    expected = visiontok.from_pretrained(run / "final").state_dict()
    for name in ("runs/mine", run, run.absolute()):
        found = visiontok.from_pretrained(name).state_dict()
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    add_results(run, [])
    assert (run / "final" / "README.md").is_file()


def test_a_run_is_pushed_and_described_from_the_hub(hub: HubServer, run: Path) -> None:
    done = CliRunner().invoke(app, ["push", "runs/mine", "me/gray", "--token", "hf_token"])
    assert done.exit_code == 0, done.output
    described = CliRunner().invoke(app, ["info", "me/gray"])
    assert described.exit_code == 0, described.output
    for line in ("name: me/gray", "family: tiny", "license of the weights: mit", "repository: me/gray"):
        assert line in described.stdout
    assert isinstance(CliRunner().invoke(app, ["--debug", "info", "me/nothing"]).exception, HubError)


def test_a_mistyped_path_is_no_repository(run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"runs/mime.*runs/mine.*runs/mime@main"):
        visiontok.from_pretrained("runs/mime")


def test_names_in_any_case_come_after_folders(run: Path) -> None:
    assert type(visiontok.create("TINY")) is type(visiontok.create("tiny"))
    with pytest.raises(UnknownNameError, match="family"):
        visiontok.from_pretrained("Tiny")
    Path("Tiny").mkdir()
    with pytest.raises((ConfigError, CheckpointError, HubError), match="Tiny"):
        visiontok.from_pretrained("Tiny")
