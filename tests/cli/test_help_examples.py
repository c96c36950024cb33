"""Every example in the help of every command runs: in this process, and, slowly, as typed in a shell where the package is installed."""

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
from forked import torchrun

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
    """Run an example, in this process where it is one."""
    words = [name for word in shlex.split(example) for name in (sorted(glob.glob(word)) if "*" in word else [word])]
    if words[0] == "visiontok":
        result = run(*words[1:])
        assert result.exit_code == 0, f"{example}\n{result.output}"
        return
    assert words[0] == "torchrun"
    torchrun(words[1:])


def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell in which the package is installed, as a wheel is, with the models and suites of `prepared`."""
    package = tmp_path / "site" / "visiontok"
    shutil.copytree(example_files.ROOT / "visiontok", package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, folder in {"models": tmp_path / "models", "suites": tmp_path / "suites", "configs": example_files.ROOT / "configs"}.items():
        shutil.copytree(folder, package / "_data" / name)
    script = tmp_path / "bin" / "visiontok"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom visiontok.cli import main\n\nmain()\n")
    script.chmod(0o755)
    path = os.pathsep.join([str(script.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1"}


def type_in(shell: str, line: str, environment: dict[str, str]) -> str:
    """What a line prints in a shell."""
    done = subprocess.run([shell, "-c", line], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@needs_bash
@pytest.mark.slow
@pytest.mark.parametrize("prepared", [name for name in FUNCTIONS if name not in ("demo", "push")], indirect=True)
def test_examples_as_typed(prepared: list[str], tmp_path: Path) -> None:
    """All but those that train for minutes or upload."""
    if any("visiontok train" in example for example in prepared):
        example_files.recipe(Path("my.yaml"))
    if any("visiontok study" in example for example in prepared):
        shutil.copy("../suites/studies/latent-perturbation.yaml", "my.yaml")
    environment = installed(tmp_path)
    for example in prepared:
        type_in("bash", example, environment)


@needs_bash
@pytest.mark.parametrize("prepared", ["list"], indirect=True)
def test_the_command_its_module_and_its_completion_in_a_shell(prepared: list[str], tmp_path: Path) -> None:
    environment = installed(tmp_path)
    assert type_in("bash", prepared[0], environment) == run(*shlex.split(prepared[0])[1:]).stdout
    assert type_in("bash", "python -m visiontok --version", environment) == run("--version").stdout
    press_tab = 'COMP_WORDS=(visiontok tok); COMP_CWORD=1; _visiontok_completion visiontok; echo "${COMPREPLY[@]}"'
    line = f'eval "$(_VISIONTOK_COMPLETE=source_bash visiontok)"; {press_tab}'
    assert type_in("bash", line, environment).split() == ["tokenize"]


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
