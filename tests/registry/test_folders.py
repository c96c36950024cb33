"""Which folder holds the model of a folder that a user names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from visiontok import registry
from visiontok.base.errors import CheckpointError


def saved(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"library": "visiontok"}))
    (folder / "model.safetensors").touch()
    return folder


def run(folder: Path, *steps: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"recipe": {"steps": 100}}))
    for step in steps:
        (folder / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    (folder / "checkpoints" / "aside-0-step-00000099").mkdir(parents=True)
    return folder


def test_a_model_a_run_and_anything_else(tmp_path: Path) -> None:
    assert registry.model_folder(saved(tmp_path / "model")) == tmp_path / "model"
    saved(run(tmp_path / "runs" / "mine") / "final")
    assert registry.model_folder(tmp_path / "runs" / "mine") == tmp_path / "runs" / "mine" / "final"
    saved(tmp_path / "only" / "final")
    assert registry.model_folder(tmp_path / "only") == tmp_path / "only" / "final"
    (tmp_path / "z" / "empty").mkdir(parents=True)
    (tmp_path / "z" / "empty" / "config.json").write_text("[")
    assert registry.model_folder(tmp_path / "z" / "empty") == tmp_path / "z" / "empty"


def test_a_run_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"step 20 of 100.*visiontok train.*steps=20"):
        registry.model_folder(run(tmp_path / "run", 10, 20))
    with pytest.raises(CheckpointError, match=r"no checkpoint.*visiontok train"):
        registry.model_folder(run(tmp_path / "new"))
    (tmp_path / "run" / "final").mkdir()  # a save that was killed before it put anything in place
    with pytest.raises(CheckpointError, match="step 20"):
        registry.model_folder(tmp_path / "run")


def test_folders_near_models_name_them(tmp_path: Path) -> None:
    saved(run(tmp_path / "runs" / "mine", 10) / "final")
    with pytest.raises(CheckpointError, match=r"runs/mine$"):
        registry.model_folder(tmp_path / "runs")
    for below in ("checkpoints", "checkpoints/step-00000010"):
        with pytest.raises(CheckpointError, match=r"runs/mine$"):
            registry.model_folder(tmp_path / "runs" / "mine" / below)


def test_a_config_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    assert registry.run_state(tmp_path) is None
