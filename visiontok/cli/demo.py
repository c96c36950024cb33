"""`visiontok demo`: train, evaluate, sample and report, on data that comes with the library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiontok.cli.output import print_table


def demo(
    folder: Annotated[Path, typer.Argument(help="Output folder; an earlier demo in it is replaced.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Random seed. The same seed gives the same numbers on the same machine.")] = 0,
) -> None:
    """Run the whole pipeline on the CPU, without network access, in a few minutes.

    Trains a small TiTok on handwritten digits and evaluates it on held-out ones; tokenizes the digits; trains a class-conditional gpt on
    the tokens, generates digits of every class and computes their classifier accuracy; reconstructs photographs with a bundled checkpoint.
    The report is FOLDER/report.html. Exits with code 1 if a metric misses its threshold.

    \b
    Examples:
      visiontok demo
      visiontok demo runs/demo --seed 1
    """
    from visiontok.demo import DemoConfig, run_demo

    outcome = run_demo(folder, DemoConfig(seed=seed))
    print_table(("metric", "value", "target", "result"), [target.cells for target in outcome.targets])
    typer.echo(f"Report: {outcome.report}")
    if not outcome.reached:
        raise typer.Exit(1)
