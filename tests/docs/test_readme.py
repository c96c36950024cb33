"""The README's table and the registry agree."""

from __future__ import annotations

import re
from pathlib import Path

import visiontok

ROOT = Path(__file__).parents[2]


def test_the_zoo_table_names_every_model_and_no_other():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("## The zoo") : readme.index("## What is where")]
    named = {name for row in table.splitlines() if row.startswith("|") for name in re.findall(r"`([^`]+)`", row.split("|")[2])}
    assert named == {*visiontok.list_tokenizers(), *visiontok.list_generators()}
