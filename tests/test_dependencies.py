"""pyproject.toml declares what the code imports, and nothing else."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from importlib.metadata import distributions as installed_distributions
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


@cache
def packages() -> dict[str, set[str]]:
    """The distributions that install each top-level module. (`packages_distributions` of Python 3.10 misses those without a `top_level.txt`.)"""
    found: dict[str, set[str]] = {}
    for distribution in installed_distributions():
        name = distribution.metadata["Name"]
        for file in distribution.files or ():
            top = file.parts[0]
            if file.suffix in (".py", ".so") and not top.endswith((".dist-info", ".data")) and top != "..":
                found.setdefault(top.partition(".")[0], set()).add(name)
    return found


COMMANDS = {"ruff", "mypy", "import-linter", "pytest-xdist"}
"""Run by `make test`, not imported."""

IMPLIED = {"markupsafe": "jinja2", "click": "typer", "tomli": "pytest"}
"""Imported packages that come with another one, by definition of its interface."""

COMPILED = {"pesq": "pesq", "visqol": "visqol-python"}
"""Modules of the extra that `make test` does without, and their distributions."""


def normalized(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def declared(requirements: list[str]) -> set[str]:
    """Names of distributions, with those of our own extras."""
    found = set()
    for requirement in requirements:
        if extras := re.fullmatch(r"visiontok\[(.+)\]", requirement):
            found |= {name for extra in extras[1].split(",") for name in declared(EXTRAS[extra])}
        else:
            found.add(normalized(requirement))
    return found


@cache
def modules_in(folder: str, *, by_name: bool) -> set[str]:
    """Top-level modules that the code in a folder imports; with `by_name`, also those that a string names."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module)
            elif by_name and isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", node.value):
                found.add(node.value)
    return {module.partition(".")[0] for module in found}


def modules(*folders: str, by_name: bool) -> set[str]:
    return set().union(*(modules_in(folder, by_name=by_name) for folder in folders))


def distributions(module: str) -> set[str]:
    return {normalized(name) for name in packages().get(module, [COMPILED[module]] if module in COMPILED else ())}


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_every_dependency_is_imported(extra: str | None) -> None:
    folders = ("visiontok", "tests", "benchmarks") if extra in ("test", "dev") else ("visiontok",)
    requirements = PROJECT["dependencies"] if extra is None else EXTRAS[extra]
    imported = set().union(*(distributions(module) for module in modules(*folders, by_name=True)))
    assert declared(requirements) - COMMANDS - imported == set()


def test_every_import_is_declared() -> None:
    known = declared(PROJECT["dependencies"]).union(*(declared(requirements) for requirements in EXTRAS.values()))
    needed = modules("visiontok", "tests", "benchmarks", by_name=False) - sys.stdlib_module_names - {"visiontok"}
    assert {module for module in needed if module in packages() and not distributions(module) & known and IMPLIED.get(module) not in known} == set()


def test_every_dependency_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("\ndependencies = [")[2].partition("[project.scripts]")[0].splitlines()
    bare = [line.strip() for line in lines if re.match(r'\s+"', line) and "#" not in line]
    assert [line for line in bare if not line.startswith(('"pytest>', '"visiontok['))] == []
