"""A suite on several models: a result file for each, one report for all, and going on after an interruption."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation.reconstruction.examples import show_examples
from visiontok.evaluation.reconstruction.kept import KeptMeasurements
from visiontok.evaluation.reconstruction.report import Measured, write_run_report
from visiontok.evaluation.reconstruction.run import Measurement, Report
from visiontok.evaluation.reconstruction.suite import Suite
from visiontok.evaluation.results.identity import processes
from visiontok.evaluation.results.result import Result


def evaluate_models(
    suite: Suite,
    names: Sequence[str],
    *,
    load: Callable[[str], Tokenizer[Any]],
    output: Path,
    progress: Callable[[str], AbstractContextManager[Report]],
    report: bool = True,
    num_workers: int = 0,
) -> list[tuple[Path, Result]]:
    """Measure each model and write what was found.

    What a killed session had done lies in a folder `.unfinished` beside the results: the next session of the same suite on the same weights,
    data, versions and hardware takes finished models from there and goes on with the one that was being measured. It is removed at the end.

    Under torch.distributed all processes call this, and the first one writes.

    Args:
        suite: what to measure.
        names: of the models.
        load: gives the model of a name.
        output: folder of the results, or a .json file for a single one.
        progress: gives a context around each model's measurement, whose value is called with the pictures done and their total.
        report: write an HTML page beside the results.
        num_workers: processes that read pictures; 0 reads in a thread.

    Returns:
        Path and result of every model, in order.

    Raises:
        EvaluationError, DataError: see `Measurement`.
    """
    folder = output.parent if output.suffix == ".json" else output
    is_first = processes()[0] == 0
    kept = KeptMeasurements(folder)
    measured, written = [], []
    for name in names:
        measurement = Measurement(suite, load(name), name=name, num_workers=num_workers)
        result, evidence = kept.measure(measurement, progress(name))
        path = output if output.suffix == ".json" else folder / f"{suite.name}--{file_stem(name)}.json"
        written.append((path, result))
        if is_first:
            evidence.save_beside(path)
            result.save(path)
            if report:
                measured.append(Measured(result, evidence, show_examples(measurement, result, evidence)))
    if is_first:
        if report:
            write_run_report(report_path(output, suite), measured)
        kept.forget()
    return written


def report_path(output: Path, suite: Suite) -> Path:
    """Of the page that belongs to the results."""
    return output.with_suffix(".html") if output.suffix == ".json" else output / f"{suite.name}.html"


def file_stem(name: str) -> str:
    """The name of a model as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")
