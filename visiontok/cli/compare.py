"""`visiontok compare`: which differences between results are more than chance, and where the models lie in quality and rate."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visiontok.base.errors import ConfigError
from visiontok.base.files import check_writable
from visiontok.cli.output import print_notes, print_table

if TYPE_CHECKING:
    from visiontok.evaluation import PerSampleResults, Result


def compare(
    results: Annotated[list[Path], typer.Argument(metavar="A.json B.json ...", help="Results that `visiontok evaluate` wrote, two or more.")],
    report: Annotated[Path | None, typer.Option(help="Write a page with all results side by side and quality against bits.")] = None,
) -> None:
    """Compare results metric by metric, each with the first.

    Means over samples are compared by a paired bootstrap over the samples, if the Parquet files that `visiontok evaluate` wrote are beside the
    results; without them, a difference is significant only if the intervals do not overlap. Results of different protocols, data or references are
    refused.

    \b
    Examples:
      visiontok compare results/photos--mine.json results/photos--vqgan-photos-f4.json
      visiontok compare results/photos--mine.json results/photos--vqgan-photos-f4.json --report token-density.html
    """
    from visiontok.evaluation import PerSampleResults, Result
    from visiontok.evaluation.results.report.comparison import write_comparison_report

    if len(results) < 2:
        held = [str(file) for path in results if path.is_dir() for file in sorted(path.glob("*.json"))]
        hint = f"; name the results in it: visiontok compare {' '.join(map(shlex.quote, held))}" if held else ""
        raise ConfigError(f"a comparison needs two results or more, got {', '.join(map(str, results))}{hint}")
    if report is not None:
        check_writable(report, file=True)
    loaded = [Result.load(path) for path in results]
    per_sample = [PerSampleResults.load_beside(path, result.per_sample_sha256) for path, result in zip(results, loaded, strict=True)]
    for number in range(1, len(results)):
        _show_pair((results[0], results[number]), (loaded[0], loaded[number]), (per_sample[0], per_sample[number]))
    print_notes(loaded)
    if report is not None:
        write_comparison_report(report, loaded, per_sample)
        typer.echo(f"report: {report}", err=True)


def _show_pair(paths: tuple[Path, Path], results: tuple[Result, Result], per_sample: tuple[PerSampleResults | None, PerSampleResults | None]) -> None:
    from visiontok.evaluation import compare_results

    differences = compare_results(*results, per_sample)
    rows = []
    for found in differences:
        gap = f"{found.interval.low:+.4g} to {found.interval.high:+.4g}" if found.interval else "-"
        rows.append([found.first.label, found.first.text, found.second.text, gap, found.conclusion, found.how])
    print_table(["metric", "first", "second", "second minus first", "conclusion", "by"], rows)
    for side, path, result in zip(("first", "second"), paths, results, strict=True):
        typer.echo(f"{side}: {result.title} ({path})")
    tested = sum(found.conclusion != "not tested" for found in differences)
    typer.echo(f"{tested} metrics tested one by one; nothing is corrected for their number.")
