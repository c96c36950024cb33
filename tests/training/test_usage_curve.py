"""The plot of codebook usage in a run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visiontok.training import parse_recipe, train
from visiontok.training.usage_curve import draw_usage


def write_metrics(path: Path, *values: dict[str, float]) -> None:
    path.write_text("".join(json.dumps({"step": step, **each}) + "\n" for step, each in enumerate(values)))


def ink(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_run_with_sample_images_has_its_curve(tokenizer_recipe):
    recipe = tokenizer_recipe(steps=2, sample_images={"every": 2, "count": 2})
    train(parse_recipe(recipe), cpu=True)
    with Image.open(Path(recipe["output"]) / "usage.png") as image:
        assert image.format == "PNG"


def test_another_usage_is_another_plot(tmp_path: Path):
    for name, last in (("high", 0.9), ("low", 0.2)):
        write_metrics(tmp_path / f"{name}.jsonl", {"usage/grid": 0.5, "loss": 1.0}, {"usage/grid": last, "loss": 1.0})
        draw_usage(tmp_path / f"{name}.jsonl", tmp_path / f"{name}.png")
    assert (ink(tmp_path / "high.png") != ink(tmp_path / "low.png")).any()


@pytest.mark.parametrize("lines", [[], [{"loss": 1.0}]])
def test_without_a_codebook_there_is_no_plot(tmp_path: Path, lines):
    write_metrics(tmp_path / "metrics.jsonl", *lines)
    draw_usage(tmp_path / "metrics.jsonl", tmp_path / "usage.png")
    assert not (tmp_path / "usage.png").exists()
