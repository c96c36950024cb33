"""Every Python block and every command of the README and of docs/ runs as written, page by page, in an empty folder without network."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from forked import torchrun
from typer.testing import CliRunner

from visiontok.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    remark: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(found[1], found[2].strip(), found[3], text[: found.start()].count("\n") + 2) for found in FENCE.finditer(text)]


def commands(block: Block) -> list[str]:
    joined = block.text.replace("\\\n", " ")
    return [line.split(" #")[0].strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_everything_on_the_page_runs(page: Path, tmp_path: Path, monkeypatch):
    """Blocks of one page share a folder, and its Python blocks one namespace, in the order of the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.remark:  # checked below
            continue
        if block.language == "python":
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
            exec(code, namespace)
        elif block.language in ("bash", "sh", "console"):
            for command in commands(block):
                run(command, tmp_path)


def run(command: str, folder: Path) -> None:
    words = shlex.split(command)
    if words[0] == "visiontok":  # in this process: most commands take less time than their imports
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception}"
        return
    if words[0] == "torchrun":
        torchrun(words[1:])
        return
    assert words[0] in ("cat", "ls", "mkdir"), f"the documentation shows {command!r}, which no test can run"
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_that_is_not_run_says_why(page: Path):
    """The two commands that install, and whatever needs the network, are marked after the language: ```bash needs-network."""
    for block in blocks(page):
        assert block.remark in ("", "needs-network", "needs-gpu", "installs", "long"), f"{page.name}:{block.line}: unknown remark {block.remark!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_of_the_project_lead_somewhere(page: Path):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
