"""A generator that its authors released is sampled by its name, with the tokenizer that it was trained on."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import HubServer
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from visiontok import registry
from visiontok.cli import app
from visiontok.generators.llamagen import reference

CASES = Path(__file__).parents[1] / "reference"
RELEASED = {"llamagen-b-256": "llamagen-gpt/c2i-a", "llamagen-vq-ds16": "llamagen-vq/a"}
"""Released names, and recorded cases of the same code at small sizes."""


@pytest.fixture
def tiny() -> None:
    """The real registry in place of the tiny one."""


@pytest.fixture
def released(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The released names lead to the authors' files of small models, in the form in which they are published."""
    monkeypatch.setattr(reference, "STRIDE", 4)  # of the small tokenizer
    known, small, files = registry.checkpoints(), {}, {}
    for name, case in RELEASED.items():
        family, entry = known[name]
        config: dict[str, Any] = json.loads((CASES / case / "config.json").read_text())
        (part,) = entry.files
        small[name] = (family, replace(entry, reference_config=config))
        buffer = io.BytesIO()
        torch.save({part.key: load_file(CASES / case / "weights.safetensors")}, buffer)
        files[part.names[0]] = buffer.getvalue()
    hub.repo("FoundationVision/LlamaGen", files)
    monkeypatch.setattr(registry, "checkpoints", lambda: small)


@pytest.mark.usefixtures("released")
def test_generate_by_name_alone(tmp_path: Path) -> None:
    for size in (4, 3):
        path, options = tmp_path / f"{size}.png", ["--class", "3", "--n", "4", "--seed", "0", "--batch-size", str(size)]
        done = CliRunner().invoke(app, ["generate", "--model", "llamagen-b-256", *options, "-o", str(path)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "4.png") as grid:
        assert grid.size == (2 * 18 + 2, 2 * 18 + 2)
    assert (tmp_path / "4.png").read_bytes() == (tmp_path / "3.png").read_bytes()
