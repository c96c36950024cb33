"""The demo: with tiny models for its outputs, and in full for its targets."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from visiontok.base.errors import ConfigError
from visiontok.demo import DemoConfig, DemoOutcome, DemoTarget, run_demo
from visiontok.hub import from_pretrained

TINY = DemoConfig(
    tokenizer_overrides=(
        "steps=6",
        "batch_size=8",
        "model.config.encoder={dim: 32, depth: 1, num_heads: 2, patch_size: 8}",
        "model.config.decoder={dim: 32, depth: 1, num_heads: 2, patch_size: 8}",
        "model.config.quantizer.kmeans.after_steps=2",
        "logging.every=2",
        "sample_images.every=0",
    ),
    generator_overrides=("steps=4", "batch_size=8", "model.config.dim=32", "model.config.depth=1", "logging.every=2", "sample_images.every=0"),
    per_class=7,
)


def quietly(folder: Path, config: DemoConfig) -> DemoOutcome:
    return run_demo(folder, config, console=Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoOutcome, str]:
    output = io.StringIO()
    return run_demo(tmp_path_factory.mktemp("demo") / "tiny", TINY, console=Console(file=output)), output.getvalue()


def test_every_stage_is_announced_and_timed(tiny: tuple[DemoOutcome, str]) -> None:
    outcome, output = tiny
    titles = list(outcome.seconds)
    assert [f"[{number}/7] {title}" for number, title in enumerate(titles, 1)] == re.findall(r"^\[\d/7\] .*$", output, flags=re.MULTILINE)
    assert output.count("since the start") == 7
    assert all(seconds > 0 for seconds in outcome.seconds.values())


def test_the_folder_holds_models_that_load_the_token_set_and_the_results(tiny: tuple[DemoOutcome, str]) -> None:
    outcome, _ = tiny
    folder = outcome.report.parent
    assert from_pretrained(folder / "tokenizer" / "final").layout == from_pretrained(folder / "generator" / "final").layout
    assert len(list((folder / "tokens").glob("*.parquet"))) == 1
    summary = json.loads((folder / "demo.json").read_text())
    assert [target["value"] for target in summary["targets"]] == [target.value for target in outcome.targets]
    result = json.loads((folder / "reconstruction.json").read_text())
    assert summary["targets"][0]["value"] == next(value["value"] for value in result["values"] if value["name"] == "psnr.mean_db")


def test_untrained_models_miss_targets(tiny: tuple[DemoOutcome, str]) -> None:
    outcome, _ = tiny
    missed = {target.name for target in outcome.targets if not target.reached}
    assert {"PSNR of held-out digits", "conditional accuracy of generated digits"} <= missed
    assert not outcome.reached


def test_the_page_is_complete_and_needs_no_network(tiny: tuple[DemoOutcome, str]) -> None:
    page = tiny[0].report.read_text()
    for target in tiny[0].targets:
        assert target.cells[1] in page
    assert page.count("<svg") == 3
    # original, reconstruction and tokens of 20 digits; 16 swaps of four digits; seven samples per class; four rows of four photographs
    assert page.count("<img") == 3 * 20 + 4 * 17 + 10 * 7 + 4 * 4
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_the_same_seed_gives_the_same_numbers_in_a_folder_that_holds_an_earlier_demo(tiny: tuple[DemoOutcome, str]) -> None:
    outcome, _ = tiny
    again = quietly(outcome.report.parent, TINY)
    assert again.targets == outcome.targets


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path))):
        quietly(tmp_path, TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(("value", "direction", "reached"), [(18, "at least", True), (17.9, "at least", False), (18, "at most", True)])
def test_a_target_is_reached_on_one_side_of_its_threshold(value: float, direction: str, reached: bool) -> None:
    target = DemoTarget("x", value, 18, direction, "dB", "")  # type: ignore[arg-type]
    assert target.reached is reached
    assert target.cells[3] == ("reached" if reached else "missed")


def test_nan_reaches_no_target() -> None:
    assert not DemoTarget("x", float("nan"), 18, "at most", "dB", "").reached


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_full_demo_reaches_every_target(tmp_path: Path, seed: int) -> None:
    outcome = quietly(tmp_path / "demo", DemoConfig(seed=seed))
    assert [target.cells for target in outcome.targets if not target.reached] == []
