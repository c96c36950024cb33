"""Recipes, suites and studies."""

from __future__ import annotations

from pathlib import Path

from fuzzing.entry import Entry, Files
from visiontok.base.resources import configs_folder, suites_folder
from visiontok.evaluation import load_any_suite
from visiontok.studies.definition import load_study
from visiontok.training import load_recipe


def _recipes() -> list[Files]:
    return [{"x.yaml": (configs_folder() / f"{name}.yaml").read_bytes()} for name in ("small/vq-gan", "small/gpt", "demo/titok-digits")]


def _suites() -> list[Files]:
    return [{"x.yaml": path.read_bytes()} for path in sorted(suites_folder().glob("*.yaml"))]


def _studies() -> list[Files]:
    return [{"x.yaml": path.read_bytes()} for path in sorted((suites_folder() / "studies").glob("*.yaml"))[:2]]


def _read_recipe(folder: Path) -> None:
    recipe = load_recipe(folder / "x.yaml")
    assert type(recipe).parse(recipe.to_dict()) == recipe


def _read_suite(folder: Path) -> None:
    suite = load_any_suite(folder / "x.yaml")
    assert type(suite).parse(suite.to_dict()) == suite


def _read_study(folder: Path) -> None:
    study = load_study(folder / "x.yaml")
    assert type(study).parse(study.to_dict()) == study


ENTRIES = (
    Entry("recipe", _recipes, _read_recipe, cases=80),
    Entry("suite", _suites, _read_suite, cases=80),
    Entry("study", _studies, _read_study, cases=30),
)
