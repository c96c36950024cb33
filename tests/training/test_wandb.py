"""Weights & Biases, with the real package in offline mode: what would be uploaded is in a file of the run folder."""

from __future__ import annotations

import importlib.util
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import training_children as children

from visiontok.base.errors import ConfigError
from visiontok.training import parse_recipe, train

BLOCK, HEADER = 2**15, struct.Struct("<IHB")
"""The file is a LevelDB log behind seven bytes of its own: blocks of records, each with checksum, length and the part that it is."""


def records(path: Path) -> Iterator[bytes]:
    content, position, whole = path.read_bytes(), 7, b""
    while position + HEADER.size <= len(content):
        if BLOCK - position % BLOCK < HEADER.size:
            position += BLOCK - position % BLOCK
            continue
        _, length, part = HEADER.unpack_from(content, position)
        if position + HEADER.size + length > len(content):
            return  # still being written
        whole += content[position + HEADER.size : position + HEADER.size + length]
        position += HEADER.size + length
        if part in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""


def whole_file(folder: Path) -> list:
    """All records of a finished run. The package's own process may still be writing the last of them."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    for _ in range(600):
        found = [wandb_internal_pb2.Record.FromString(content) for content in records(path)]
        if found and found[-1].HasField("exit"):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def logged(folder: Path) -> tuple[dict, dict[int, dict[str, float]]]:
    """Names of the run, and what it logged by step."""
    names, history = {}, {}
    for record in whole_file(folder):
        if record.HasField("run"):
            names = {"project": record.run.project, "name": record.run.display_name, "group": record.run.run_group}
            names["config"] = {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if record.HasField("history"):
            values = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            history[record.history.step.num] = values
    return names, history


@pytest.fixture
def offline(monkeypatch, tmp_path):
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_CONFIG_DIR": str(tmp_path), "WANDB_CACHE_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)


def test_wandb_gets_every_logged_step_and_the_recipe(offline, tokenizer_recipe):
    recipe = tokenizer_recipe(logging={"every": 4, "wandb": "my-project", "tensorboard": False})
    children.run(recipe)
    folder = Path(recipe["output"])
    names, history = logged(folder)
    assert (names["project"], names["name"], names["group"]) == ("my-project", folder.name, folder.name)
    assert names["config"]["batch_size"] == recipe["batch_size"]
    written = {line["step"]: line for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())}
    assert set(history) == set(written) == {4, 8}
    for step, line in written.items():
        assert {name: history[step][name] for name in line if name != "step"} == {name: value for name, value in line.items() if name != "step"}


def test_wandb_must_be_installed_to_be_used(tokenizer_recipe, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "wandb" else found(name, *rest))
    with pytest.raises(ConfigError, match="pip install wandb"):
        train(parse_recipe(tokenizer_recipe(logging={"wandb": "project", "tensorboard": False})), cpu=True)
