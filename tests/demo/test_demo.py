"""The demo: with tiny models for its shape, in full for its numbers."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from visiontok.base.errors import ConfigError
from visiontok.demo import Bar, DemoConfig, DemoOutcome, run_demo
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


def test_the_folder_holds_models_that_load_the_token_set_and_the_numbers(tiny: tuple[DemoOutcome, str]) -> None:
    outcome, _ = tiny
    folder = outcome.report.parent
    assert from_pretrained(folder / "tokenizer" / "final").layout == from_pretrained(folder / "generator" / "final").layout
    assert len(list((folder / "tokens").glob("*.parquet"))) == 1
    summary = json.loads((folder / "demo.json").read_text())
    assert [bar["value"] for bar in summary["bars"]] == [bar.value for bar in outcome.bars]
    measured = json.loads((folder / "reconstruction.json").read_text())
    assert summary["bars"][0]["value"] == next(value["value"] for value in measured["values"] if value["name"] == "psnr.mean_db")


def test_models_that_learned_nothing_miss_the_bars(tiny: tuple[DemoOutcome, str]) -> None:
    outcome, _ = tiny
    missed = {bar.name for bar in outcome.bars if not bar.reached}
    assert {"PSNR of held-out digits", "generated digits that show the class asked for"} <= missed
    assert not outcome.reached


def test_the_page_is_whole_and_needs_no_network(tiny: tuple[DemoOutcome, str]) -> None:
    page = tiny[0].report.read_text()
    for bar in tiny[0].bars:
        assert bar.cells[1] in page
    assert page.count("<svg") == 3
    # per digit original, reconstruction, tokens; four digits with all and every token; ten of each class but for what was drawn; four photographs
    assert page.count("<img") == 3 * 20 + 4 * 17 + 10 * 7 + 4 * 4
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_the_same_seed_gives_the_same_numbers_in_a_folder_that_holds_an_earlier_demo(tiny: tuple[DemoOutcome, str]) -> None:
    outcome, _ = tiny
    again = quietly(outcome.report.parent, TINY)
    assert again.bars == outcome.bars


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(ConfigError, match="holds files that no demo wrote"):
        quietly(tmp_path, TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(("value", "direction", "reached"), [(18, "at least", True), (17.9, "at least", False), (18, "at most", True)])
def test_a_bar_is_reached_on_its_own_side(value: float, direction: str, reached: bool) -> None:
    bar = Bar("x", value, 18, direction, "dB", "")  # type: ignore[arg-type]
    assert bar.reached is reached
    assert bar.cells[3] == ("reached" if reached else "missed")


def test_a_number_that_is_none_reaches_nothing() -> None:
    assert not Bar("x", float("nan"), 18, "at most", "dB", "").reached


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_full_demo_reaches_every_bar(tmp_path: Path, seed: int) -> None:
    outcome = quietly(tmp_path / "demo", DemoConfig(seed=seed))
    assert [bar.cells for bar in outcome.bars if not bar.reached] == []
