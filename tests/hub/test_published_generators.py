"""A generator that its authors released is sampled by its name, with the tokenizer that it was trained on."""

from __future__ import annotations

import io
import json
from argparse import Namespace
from collections.abc import Mapping
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
from visiontok.generators.omnitokenizer import reference as omnitokenizer
from visiontok.signals.video_reading import read_clip
from visiontok.signals.video_writing import save_video

CASES = Path(__file__).parents[1] / "reference"
RELEASED = {"llamagen-b-256": "llamagen-gpt/c2i-a", "llamagen-vq-ds16": "llamagen-vq/a"}
OMNI = {
    "omnitokenizer-imagenet-ar": "ar_image_class_first",
    "omnitokenizer-k600-ar": "ar_clip_frames",
    "omnitokenizer-imagenet-ucf": "vq_rope",
    "omnitokenizer-imagenet-k600": "vq_rope",
}
"""Released names, and recorded cases of the same code at small sizes."""


@pytest.fixture
def tiny() -> None:
    """The real registry in place of the tiny one."""


@pytest.fixture
def released(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of LlamaGen's releases lead to the authors' files of small models."""
    monkeypatch.setattr(reference, "STRIDE", 4)  # of the small tokenizer
    publish(hub, monkeypatch, "FoundationVision/LlamaGen", RELEASED)


def publish(hub: HubServer, monkeypatch: pytest.MonkeyPatch, repo: str, cases: Mapping[str, str]) -> None:
    """Small models under released names, in the form in which the authors publish theirs: with a key of their own, or as Lightning writes them."""
    known, small, files = registry.checkpoints(), {}, {}
    for name, case in cases.items():
        family, entry = known[name]
        config: dict[str, Any] = json.loads((CASES / case / "config.json").read_text())
        (part,) = entry.files
        small[name] = (family, replace(entry, reference_config=config))
        around = {} if part.key else {"hyper_parameters": {"args": Namespace(**config)}}
        buffer = io.BytesIO()
        torch.save({part.key or "state_dict": load_file(CASES / case / "weights.safetensors"), **around}, buffer)
        files[part.names[0]] = buffer.getvalue()
    hub.repo(repo, files)
    monkeypatch.setattr(registry, "checkpoints", lambda: small)


def generate(*options: object) -> None:
    done = CliRunner().invoke(app, ["generate", *map(str, options)], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.mark.usefixtures("released")
def test_generate_by_name_alone(tmp_path: Path) -> None:
    for size in (4, 3):
        path, options = tmp_path / f"{size}.png", ["--class", "3", "--n", "4", "--seed", "0", "--batch-size", str(size)]
        generate("--model", "llamagen-b-256", *options, "-o", path)
    with Image.open(tmp_path / "4.png") as grid:
        assert grid.size == (2 * 18 + 2, 2 * 18 + 2)
    assert (tmp_path / "4.png").read_bytes() == (tmp_path / "3.png").read_bytes()


@pytest.fixture
def omni(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of OmniTokenizer's releases lead to the authors' files of small models."""
    monkeypatch.setattr(omnitokenizer, "STRIDE", (2, 8, 8))  # of the small tokenizer
    publish(hub, monkeypatch, "Daniel0724/OmniTokenizer", {name: f"omnitokenizer/{case}" for name, case in OMNI.items()})


@pytest.mark.usefixtures("omni")
def test_images_and_continued_clips_by_name_alone(tmp_path: Path) -> None:
    options = ["--seed", "0", "--n", "2"]
    generate(*options, "--model", "omnitokenizer-imagenet-ar", "--class", "3", "-o", tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (2 * 34 + 2, 32 + 4)
    save_video(torch.rand(3, 5, 32, 32, generator=torch.Generator().manual_seed(0)), tmp_path / "clip.mp4", rate=8)
    generate(*options, "--model", "omnitokenizer-k600-ar", "--continue", tmp_path / "clip.mp4", "--frames", "3", "-o", tmp_path / "out")
    assert read_clip(tmp_path / "out" / "00001.mp4").frames.shape == (9, 32, 32, 3)
