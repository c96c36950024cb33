"""`run_demo`: everything in order, in one folder, with a page that shows it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from visiontok.base.errors import ConfigError
from visiontok.base.files import replacing
from visiontok.demo.bars import Bar, bars_of
from visiontok.demo.digits import run_digits
from visiontok.demo.page import write_page
from visiontok.demo.photographs import reconstruct_photographs
from visiontok.demo.settings import DemoConfig
from visiontok.demo.stages import Stages

SUMMARY, PAGE = "demo.json", "report.html"


@dataclass(frozen=True)
class DemoOutcome:
    """How a demo ended.

    Attributes:
        report: the page.
        bars: what had to be reached, and what was measured.
        seconds: of every stage, by title.
    """

    report: Path
    bars: tuple[Bar, ...]
    seconds: dict[str, float]

    @property
    def reached(self) -> bool:
        """Whether every bar was."""
        return all(bar.reached for bar in self.bars)


def run_demo(folder: str | Path, config: DemoConfig | None = None, *, console: Console | None = None) -> DemoOutcome:
    """Train, measure, sample and show, without any network; on the CPU, so that a seed gives the same numbers again on the same machine.

    Args:
        folder: gets `report.html`, `demo.json` (the numbers), the trained models, the token set and the results. What an earlier demo
            left there is replaced.
        config: recipes and sizes.
        console: where progress goes; None for stderr.

    Raises:
        ConfigError: if the folder holds anything but an earlier demo.
        VisiontokError: whatever the trainer or a measurement refuses.
    """
    folder, config = Path(folder), config or DemoConfig()
    _make_room(folder)
    stages = Stages(console or Console(stderr=True), count=7)
    _note(folder, {"config": config.to_dict()})
    digits = run_digits(config, folder, stages)
    with stages.stage(f"Reconstruct held-out photographs with {config.photo_model}"):
        photographs = reconstruct_photographs(config.photo_model)
    bars = bars_of(digits, photographs)
    with stages.stage("Write the report"):
        write_page(folder / PAGE, config, digits, photographs, bars, stages.seconds)
    results = [{**asdict(bar), "reached": bar.reached} for bar in bars]
    _note(folder, {"config": config.to_dict(), "bars": results, "seconds": {title: round(time, 1) for title, time in stages.seconds.items()}})
    return DemoOutcome(folder / PAGE, bars, stages.seconds)


def _make_room(folder: Path) -> None:
    """An empty folder; an earlier demo, known by its summary, is removed."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder for the demo")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / SUMMARY).is_file():
            raise ConfigError(f"{folder} holds files that no demo wrote; name a new or an empty folder")
        for name in ("tokenizer", "tokens", "generator"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in (PAGE, "reconstruction.json", "generation.json"):
            (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


def _note(folder: Path, values: dict[str, object]) -> None:
    with replacing(folder / SUMMARY) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
