"""Every command that writes, killed at its file operations and repeated, ends with what an uninterrupted one writes, and with nothing beside it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import harness
import pytest
import torch

import visiontok
from visiontok.core.identity import identify
from visiontok.data.shapes import ShapesConfig, ShapesSource
from visiontok.data.tokenizing import tokenize_source
from visiontok.training import parse_recipe, train

VIT = {"dim": 8, "depth": 1, "num_heads": 2, "patch_size": 8}
TITOK = {"image_size": 16, "num_latent_tokens": 2, "encoder": VIT, "decoder": VIT, "quantizer": {"type": "vq", "codebook_size": 16, "dim": 4}}

pytestmark = pytest.mark.skipif("fork" not in harness.multiprocessing.get_all_start_methods(), reason="starting processes anew takes seconds each")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def training(folder: Path, *, images: bool = False) -> None:
    recipe = {
        "kind": "tokenizer",
        "output": str(folder / "run"),
        "steps": 2,
        "batch_size": 4,
        "model": {"family": "titok", "config": TITOK},
        "data": {"source": {"name": "shapes", "size": 16, "num_samples": 8, "max_objects": 1}},
        "checkpoints": {"every": 1, "keep_last": 1},
        "logging": {"every": 1, "tensorboard": False},
        "sample_images": {"every": int(images), "count": 2},
    }
    with contextlib.redirect_stderr(io.StringIO()):
        train(parse_recipe(recipe), cpu=True)


def tokenizing(folder: Path) -> None:
    torch.manual_seed(0)
    model = visiontok.create("titok", **TITOK)
    source = ShapesSource(ShapesConfig(size=16, num_samples=5, max_objects=1))
    tokenize_source(source, model, folder / "tokens", identity=identify(model, "tiny"), batch_size=2, shard_size=2)


def comparable(folder: Path) -> dict[str, bytes]:
    """All files but for what tells the time of a run."""
    found = harness.files(folder)
    if "run/metrics.jsonl" in found:
        lines = [json.loads(line) for line in found["run/metrics.jsonl"].splitlines()]
        found["run/metrics.jsonl"] = json.dumps([{key: value for key, value in line.items() if "per_second" not in key} for line in lines]).encode()
    for name in found:
        if name.endswith("config.json") or name.endswith("manifest.json"):
            found[name] = found[name].replace(str(folder).encode(), b"FOLDER")
    return found


COMMANDS = {"train": training, "tokenize": tokenizing}
SLOW_COMMANDS = COMMANDS | {"train with images": partial(training, images=True)}


def check(command: Callable[[Path], None], tmp_path: Path, choose: Callable[[list[str]], list[int]]) -> None:
    command(tmp_path / "first")  # imports and caches, so that all children start alike
    log = harness.operations(command, tmp_path / "whole")
    expected = comparable(tmp_path / "whole")
    for number in choose(log):
        folder = tmp_path / str(number)
        harness.kill_and_repeat(command, folder, number)
        found = comparable(folder)
        assert found.keys() == expected.keys(), log[number]
        assert [name for name in expected if found[name] != expected[name]] == [], log[number]


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_an_operation_of_every_kind(command, tmp_path):
    check(COMMANDS[command], tmp_path, harness.one_of_each_kind)


@pytest.mark.slow
@pytest.mark.parametrize("command", SLOW_COMMANDS)
def test_killed_at_every_operation(command, tmp_path):
    check(SLOW_COMMANDS[command], tmp_path, lambda log: list(range(len(log))))
