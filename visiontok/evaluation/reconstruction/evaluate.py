"""A suite on several models: a result file for each, one report for all; interrupted commands are resumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from visiontok.core.tokenizer import Tokenizer
from visiontok.data import Source
from visiontok.evaluation.reconstruction.examples import show_examples
from visiontok.evaluation.reconstruction.report import ReportEntry, write_run_report
from visiontok.evaluation.reconstruction.run import NamedGenerator, ReconstructionRun
from visiontok.evaluation.reconstruction.suite import Suite
from visiontok.evaluation.results.identity import rank_and_world_size
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.result import Result, result_path
from visiontok.evaluation.run_state import ProgressCallback, RunStates


def evaluate_models(
    suite: Suite,
    names: Sequence[str],
    *,
    load: Callable[[str], Tokenizer[Any]],
    output: Path,
    progress: Callable[[str], AbstractContextManager[ProgressCallback]],
    generator: NamedGenerator | None = None,
    allow_other_tokenizer: bool = False,
    report: bool = True,
    num_workers: int = 0,
    source: Source | None = None,
) -> list[tuple[Path, Result]]:
    """Evaluate each model and write the results.

    The state of an interrupted command is in a folder `.run-state` beside the results: the next command of the same suite on the same weights,
    data, versions and hardware takes finished models from there and continues with the one that was being evaluated. It is removed at the end.

    Under torch.distributed all processes call this, and the first one writes.

    Args:
        suite: what to evaluate.
        names: of the models.
        load: gives the model of a name.
        output: folder of the results, or a .json file for a single one.
        progress: gives a context around each model's run, whose value is called with the samples done and their total.
        generator: a model of the tokens, for metrics under a prior.
        allow_other_tokenizer: also a model of another tokenizer's tokens.
        report: write an HTML page beside the results.
        num_workers: processes that read samples; 0 reads in a thread.
        source: of the samples, where the caller has opened the suite's.

    Returns:
        Path and result of every model, in order.

    Raises:
        EvaluationError, DataError, IdentityError: see `ReconstructionRun`.
    """
    states = RunStates(output.parent if output.suffix == ".json" else output)
    is_first = rank_and_world_size()[0] == 0
    entries, written = [], []
    for name in names:
        run = ReconstructionRun(
            suite, load(name), name=name, source=source, generator=generator, allow_other_tokenizer=allow_other_tokenizer, num_workers=num_workers
        )
        result, per_sample = run_or_take(run, states, progress(name))
        path = result_path(output, suite.name, name)
        written.append((path, result))
        if is_first:
            per_sample.save_beside(path)
            result.save(path)
            if report:
                entries.append(ReportEntry(result, per_sample, show_examples(run, result, per_sample)))
    if is_first:
        if report:
            write_run_report(report_path(output, suite), entries)
        states.clear()
    return written


def run_or_take(run: ReconstructionRun, states: RunStates, progress: AbstractContextManager[ProgressCallback]) -> tuple[Result, PerSampleResults]:
    """The result of a run: that of an earlier command if it finished the run, else computed from the start or from the stored state."""
    state = states.open(run.identity)
    known = state.finished()
    if known is not None and known[1] is not None:
        return known[0], known[1]
    with progress as step:
        result, per_sample = run.run(progress=step, state=state)
    state.finish(result, per_sample)
    return result, per_sample


def report_path(output: Path, suite: Suite) -> Path:
    """The path of the page that belongs to the results."""
    return output.with_suffix(".html") if output.suffix == ".json" else output / f"{suite.name}.html"
