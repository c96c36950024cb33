"""The tables of the README and of the documentation are the registry's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import visiontok
from visiontok import registry
from visiontok.base.errors import ConfigError
from visiontok.registry.table import PAGES, clips_table, markers, taxonomy_table, updated, zoo_table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("table", PAGES)
def test_the_page_holds_the_table_of_today(table: str) -> None:
    page = (ROOT / PAGES[table]).read_text(encoding="utf-8")
    assert all(marker in page for marker in markers(table))
    assert updated(page) == page, f"run: python -m visiontok.registry.table {PAGES[table]}"


def test_the_taxonomy_names_every_audio_checkpoint_once() -> None:
    named = re.findall(r"`([^`]+)`", taxonomy_table())
    assert sorted(named) == [name for name in visiontok.list_tokenizers(modality="audio") if name in registry.checkpoints()]


def test_the_clips_name_every_checkpoint_of_families_for_clips_once() -> None:
    named = sorted(line.split(" | ")[1].strip("`") for line in clips_table().splitlines()[2:])
    kinds = {name: (family.kind, "video" in family.modalities) for name, (family, _) in registry.checkpoints().items()}
    assert named == sorted(name for name, kind in kinds.items() if kind == ("tokenizer", True))


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
    begin, end = markers("zoo")
    page.write_text(f"before\n{begin}\nstale\n{end}\nafter\n")
    subprocess.run([sys.executable, "-m", "visiontok.registry.table", str(page)], check=True, cwd=ROOT)
    assert page.read_text() == f"before\n{begin}\n\n{zoo_table()}\n\n{end}\nafter\n"


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ConfigError):
        updated("# nothing here\n")
