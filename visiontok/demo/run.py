"""`run_demo`: the whole pipeline in one folder, with a report."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from visiontok.base.errors import ConfigError
from visiontok.base.files import contents, remove_temporaries, replacing
from visiontok.base.locks import exclusive
from visiontok.demo.digits import run_digits
from visiontok.demo.page import write_page
from visiontok.demo.photographs import reconstruct_photographs
from visiontok.demo.settings import DemoConfig
from visiontok.demo.stages import Stages
from visiontok.demo.targets import DemoTarget, targets_of

SUMMARY, REPORT = "demo.json", "report.html"


@dataclass(frozen=True)
class DemoOutcome:
    """Outcome of a demo.

    Attributes:
        report: path of the HTML page.
        targets: metrics with a target.
        seconds: of every stage, by title.
    """

    report: Path
    targets: tuple[DemoTarget, ...]
    seconds: dict[str, float]

    @property
    def reached(self) -> bool:
        """Whether every target is reached."""
        return all(target.reached for target in self.targets)


def run_demo(folder: str | Path, config: DemoConfig | None = None, *, console: Console | None = None) -> DemoOutcome:
    """Train, evaluate, sample and report, without network access; on the CPU, so that a seed reproduces its results on the same machine.

    Args:
        folder: for `report.html`, `demo.json` (the metrics), the trained models, the token set and the results. An earlier demo in it is
            replaced.
        config: recipes and sizes.
        console: for progress; None for stderr.

    Raises:
        ConfigError: if the folder holds other files than those of an earlier demo.
        FolderInUseError: if another demo runs there.
        VisiontokError: from training or evaluation.
    """
    folder, config = Path(folder), config or DemoConfig()
    _refuse_strangers(folder)
    with exclusive(folder):
        _clear(folder)
        return _run(folder, config, console)


def _run(folder: Path, config: DemoConfig, console: Console | None) -> DemoOutcome:
    stages = Stages(console or Console(stderr=True), count=7)
    _write_summary(folder, {"config": config.to_dict()})
    digits = run_digits(config, folder, stages)
    with stages.stage(f"Reconstruct held-out photographs with {config.photo_model}"):
        photographs = reconstruct_photographs(config.photo_model)
    targets = targets_of(digits, photographs)
    with stages.stage("Write the report"):
        write_page(folder / REPORT, config, digits, photographs, targets, stages.seconds)
    metrics = [{**asdict(target), "reached": target.reached} for target in targets]
    seconds = {title: round(time, 1) for title, time in stages.seconds.items()}
    _write_summary(folder, {"config": config.to_dict(), "targets": metrics, "seconds": seconds})
    return DemoOutcome(folder / REPORT, targets, stages.seconds)


def _refuse_strangers(folder: Path) -> None:
    """Only an empty folder, or that of an earlier demo, which is recognized by its summary, is written to."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder for the demo")
    if folder.is_dir() and contents(folder) and not (folder / SUMMARY).is_file():
        raise ConfigError(f"{folder} holds files that no demo wrote; name a new or empty folder")


def _clear(folder: Path) -> None:
    """Remove what an earlier demo wrote; its summary is replaced."""
    remove_temporaries(folder)
    for name in ("tokenizer", "tokens", "generator"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (REPORT, "reconstruction.json", "generation.json"):
        (folder / name).unlink(missing_ok=True)


def _write_summary(folder: Path, values: dict[str, object]) -> None:
    with replacing(folder / SUMMARY) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
