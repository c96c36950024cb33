from __future__ import annotations

from pathlib import Path

from hub_server import HubServer
from typer.testing import CliRunner

import visiontok
from visiontok.cli import app


def test_push(hub: HubServer, tmp_path: Path) -> None:
    visiontok.save_pretrained(visiontok.create("tiny"), tmp_path / "grey")
    result = CliRunner().invoke(app, ["push", str(tmp_path / "grey"), "me/grey", "--token", "hf_token"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{hub.url}/me/grey/commit/{hub.repos['me/grey'].refs['main']}\n"
    assert visiontok.from_pretrained("me/grey", cache_dir=tmp_path / "cache").config.codes == 4


def test_refused(hub: HubServer, tmp_path: Path) -> None:
    visiontok.save_pretrained(visiontok.create("tiny"), tmp_path / "grey")
    hub.refuse_commits = 403
    result = CliRunner().invoke(app, ["push", str(tmp_path / "grey"), "me/grey", "--token", "hf_token"])
    assert result.exit_code == 1
    assert "access to me/grey is forbidden with this token" in result.stderr
