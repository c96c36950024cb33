"""Every example in the help of every command runs as typed."""

from __future__ import annotations

import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import example_files
import pytest
from command import run

import visiontok.demo
import visiontok.hub
from visiontok import registry
from visiontok.cli.commands import FUNCTIONS
from visiontok.demo import DemoConfig, DemoOutcome
from visiontok.evaluation import suites
from visiontok.registry import lookup
from visiontok.studies import definition

BUNDLED = example_files.ROOT / "models"


def help_of(command: str) -> str:
    return run(*command.split(), "--help").stdout


def examples(command: str) -> list[str]:
    """The lines below "Examples:" in the help of a command."""
    below = re.search(r"^  Examples?:\n((?:    .+\n)+)", help_of(command), re.MULTILINE)
    assert below is not None, f"`visiontok {command} --help` shows no example"
    return [line.strip() for line in below[1].splitlines()]


@pytest.fixture
def prepared(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The examples of a command, in a folder with what they name, with small models under released names and few samples in every suite."""
    command: str = request.param
    lines = examples(command)
    text = "\n".join(lines)
    models, folder = tmp_path / "models", tmp_path / "folder"
    shutil.copytree(BUNDLED, models)
    folder.mkdir()
    for name in example_files.RELEASED:
        if name in text and command not in ("list", "info"):
            example_files.save_released(name, models, tmp_path / "scratch")
    example_files.small_suites(tmp_path / "suites")
    for module in (suites, definition):
        monkeypatch.setattr(module, "suites_folder", lambda: tmp_path / "suites")
    monkeypatch.setattr(lookup, "models_folder", lambda: models)
    registry.bundled.cache_clear()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = {re.sub(r"^(\./|(\w+:)+)", "", word) for word in shlex.split(text)} | {*re.findall(r"\[default: ([^\s\]]+)\]", help_of(command))}
    for name, make in example_files.FILES.items():
        if name in given:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            make(Path(name))
    yield lines
    registry.bundled.cache_clear()


def check(example: str) -> None:
    """Run an example, in this process where the command is `visiontok`."""
    words = [name for word in shlex.split(example) for name in (sorted(glob.glob(word)) if "*" in word else [word])]
    if words[0] == "visiontok":
        result = run(*words[1:])
        assert result.exit_code == 0, f"{example}\n{result.output}"
        return
    assert words[0] == "torchrun"
    environment = {**os.environ, "PYTHONPATH": str(example_files.ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, f"{example}\n{done.stdout}\n{done.stderr}"


def commands(*special: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("prepared", special or [name for name in FUNCTIONS if name not in SPECIAL], indirect=True)


SPECIAL = ("list", "train", "study", "demo", "push")
"""Commands with a test of their own below."""


@commands()
def test_examples(prepared: list[str]) -> None:
    for example in prepared:
        check(example)


@commands("list")
def test_examples_of_list(prepared: list[str]) -> None:
    for example in prepared:
        (word,) = [word for word in shlex.split(example)[2:3] if not word.startswith("-")] or ["*"]
        assert run(*shlex.split(example)[1:]).stdout.count("\n") > 1
        assert visiontok.list_tokenizers(word)


@commands("train")
def test_examples_of_train(prepared: list[str]) -> None:
    example_files.recipe(Path("my.yaml"))
    for example in prepared:
        check(example)


@commands("study")
def test_examples_of_study(prepared: list[str]) -> None:
    shutil.copy("../suites/studies/latent-perturbation.yaml", "my.yaml")
    for example in prepared:
        check(example)


@commands("demo")
def test_examples_of_demo(prepared: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its training, which tests/demo covers."""
    seen: list[tuple[str, int]] = []

    def run_demo(folder: Path, config: DemoConfig) -> DemoOutcome:
        seen.append((str(folder), config.seed))
        return DemoOutcome(folder / "report.html", (), {})

    monkeypatch.setattr(visiontok.demo, "run_demo", run_demo)
    for example in prepared:
        check(example)
    assert seen == [("demo", 0), ("runs/demo", 1)]


@commands("push")
def test_examples_of_push(prepared: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the upload, which tests/hub covers."""
    pushed: list[str] = []

    def push_folder(folder: Path, repository: str, **_: object) -> str:
        visiontok.from_pretrained(folder)
        pushed.append(repository)
        return f"https://example.org/{repository}"

    monkeypatch.setattr(visiontok.hub, "push_folder", push_folder)
    for example in prepared:
        check(example)
    assert len(pushed) == len(prepared)


def test_the_examples_of_evaluate_and_compare_follow_each_other() -> None:
    """A result that `compare` and `--repeat` take is one that `evaluate` writes."""
    written = "results/photos--vqgan-photos-f4.json"
    assert any("--model vqgan-photos-f4" in example and "-o results" in example for example in examples("evaluate"))
    assert any(f"--repeat {written}" in example for example in examples("evaluate"))
    assert any(written in example for example in examples("compare"))
