"""`visiontok compare`: which differences between two results are more than chance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiontok.cli.output import print_table


def compare(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="A result that `visiontok evaluate` wrote.")],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="Another one, of the same protocol on the same pixels.")],
) -> None:
    """Compare two results metric by metric.

    Means over images are compared by a paired bootstrap over the images, where the files `A.evidence.safetensors` and
    `B.evidence.safetensors` lie beside the results; without them, intervals that do not overlap count as a difference. Results of different
    protocols, data or references are refused.

    \b
    Examples:
      visiontok compare results/photos--mine.json results/photos--vqgan-photos-f4.json
    """
    from visiontok.evaluation import Result
    from visiontok.evaluation.results.comparison import compare_results
    from visiontok.evaluation.results.per_sample import Evidence

    results = [Result.load(path) for path in (first, second)]
    evidence = [Evidence.load_beside(path, result.evidence_sha256) for path, result in zip((first, second), results, strict=True)]
    differences = compare_results(results[0], results[1], (evidence[0], evidence[1]))
    rows = []
    for found in differences:
        gap = f"{found.interval.low:+.4g} to {found.interval.high:+.4g}" if found.interval else "-"
        rows.append([found.first.label, found.first.text, found.second.text, gap, found.verdict, found.how])
    print_table(["metric", "first", "second", "second minus first", "verdict", "by"], rows)
    for side, path, result in zip(("first", "second"), (first, second), results, strict=True):
        typer.echo(f"{side}: {result.model.name if result.model else 'samples'} ({path})")
    judged = sum(found.verdict != "not judged" for found in differences)
    typer.echo(f"{judged} metrics judged one by one; nothing is corrected for their number.")
