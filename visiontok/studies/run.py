"""`run_study`: all runs of a study, and its findings."""

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
    """Train and evaluate on the CPU, and compare.

    Each run has its own folder. Complete runs are reused, and a stopped run resumes from its checkpoint.

    Args:
        study: its definition.
        name: of the study.
        root: folder of the runs.
        seeds: instead of the study's; empty for the study's own.
        console: for progress; None for stderr.

    Raises:
        VisiontokError: from training or evaluation, or if a complete run belongs to another definition.
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
        state = "complete" if values else "training and evaluating"
        console.print(f"[{number}/{len(runs)}] {run.data}, {run.arm}, seed {run.seed}: {state}", highlight=False, markup=False, soft_wrap=True)
        results.append(values or run.execute(console))
    return StudyResult(name=name, study=study, runs=tuple(results), findings=tuple(findings(study, results)), run=clock.run(1))


def runs_of(study: Study, root: str | Path) -> list[StudyRun]:
    """In the order in which they are executed: seed by seed, so that complete seeds can be compared early.

    Raises:
        ConfigError: if the recipe of an arm cannot be read.
    """
    runs = [StudyRun(study, data, arm, seed, Path(root)) for seed in study.seeds for data in study.data for arm in study.arms]
    for run in runs[: len(study.data) * len(study.arms)]:
        try:
            run.definition()
        except ConfigError as error:
            raise ConfigError(f"the arm {run.arm} on {run.data}: {error}") from error
    return runs
