"""`run_study`: every run in turn, then the findings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from visiontok.base.errors import ConfigError
from visiontok.evaluation.results.identity import Clock
from visiontok.studies.arms import StudyRun
from visiontok.studies.definition import Study
from visiontok.studies.result import StudyResult
from visiontok.studies.statistics import findings


def run_study(study: Study, *, name: str, root: str | Path, seeds: Sequence[int] = (), console: Console | None = None) -> StudyResult:
    """Train and measure what is not yet there, on the CPU, and compare.

    Each run is trained in its own folder; one that is finished is not repeated, and one that was stopped goes on from its checkpoint.

    Args:
        study: what to do.
        name: of the study.
        root: folder of the runs.
        seeds: other seeds than the study's; none for the study's own.
        console: where progress goes; None for stderr.

    Raises:
        VisiontokError: whatever the trainer or a measurement refuses, or if a finished run belongs to another definition.
        KeyboardInterrupt: if a training was interrupted.
    """
    clock = Clock()
    console = console or Console(stderr=True)
    if seeds:
        study = study.replace(seeds=list(seeds))
    runs = runs_of(study, root)
    results = []
    for number, run in enumerate(runs, 1):
        values = run.finished()
        state = "finished before" if values else "training and measuring"
        console.print(f"[{number}/{len(runs)}] {run.data}, {run.arm}, seed {run.seed}: {state}", highlight=False, markup=False, soft_wrap=True)
        results.append(values or run.carry_out(console))
    return StudyResult(name=name, study=study, runs=tuple(results), findings=tuple(findings(study, results)), run=clock.run(1))


def runs_of(study: Study, root: str | Path) -> list[StudyRun]:
    """In the order in which they are carried out: seed by seed, so that whatever is finished early can be compared.

    Raises:
        ConfigError: if a recipe that an arm names cannot be read.
    """
    runs = [StudyRun(study, data, arm, seed, Path(root)) for seed in study.seeds for data in study.data for arm in study.arms]
    for run in runs[: len(study.data) * len(study.arms)]:
        try:
            run.definition()
        except ConfigError as error:
            raise ConfigError(f"the arm {run.arm} on {run.data}: {error}") from error
    return runs
