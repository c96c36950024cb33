"""The README's zoo table is the registry's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import visiontok
from visiontok import registry
from visiontok.base.errors import ConfigError
from visiontok.registry.table import BEGIN, END, updated, zoo_table

ROOT = Path(__file__).parents[2]


def test_the_readme_holds_the_table_of_today() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert updated(readme) == readme, "run: python -m visiontok.registry.table README.md"


def test_the_table_names_every_family_and_model() -> None:
    rows = [line.split(" | ") for line in zoo_table().splitlines() if line.startswith("| ")]
    named = [name for row in rows for name in re.findall(r"`([^`(]+)`", row[1])]
    assert sorted(named) == sorted([*visiontok.list_tokenizers(), *visiontok.list_generators(), *visiontok.list_drafters()])
    for family in registry.families().values():
        assert any(family.title in row[0] and family.summary in row[2] and row[3].startswith(family.verified) for row in rows)


def test_every_family_says_what_was_verified_and_its_page_exists() -> None:
    for family in registry.families().values():
        assert family.title
        assert family.verified
        assert not family.docs or (ROOT / family.docs.partition("#")[0]).is_file(), family.docs


def test_only_what_is_between_the_markers_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
    subprocess.run([sys.executable, "-m", "visiontok.registry.table", str(page)], check=True, cwd=ROOT)
    assert page.read_text() == f"before\n{BEGIN}\n\n{zoo_table()}\n\n{END}\nafter\n"


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ConfigError):
        updated("# nothing here\n")
