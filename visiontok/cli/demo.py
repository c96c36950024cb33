"""`visiontok demo`: train, measure, sample and show, on data that comes with the library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiontok.cli.output import print_table


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the report, the models and the token set. An earlier demo in it is replaced.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same numbers on the same machine.")] = 0,
) -> None:
    """See everything at work, on the CPU and without any network, in a few minutes.

    Trains a small TiTok on scans of handwritten digits and measures it on held-out ones; writes the digits as tokens; trains a
    class-conditional gpt on them, generates digits of every class and has a classifier judge them; puts photographs through a
    bundled checkpoint. FOLDER/report.html shows it all. Ends with exit code 1 if a number misses its bar.

    \b
    Examples:
      visiontok demo
      visiontok demo /tmp/digits --seed 1
    """
    from visiontok.demo import DemoConfig, run_demo

    outcome = run_demo(folder, DemoConfig(seed=seed))
    print_table(("", "measured", "bar", "verdict"), [bar.cells for bar in outcome.bars])
    typer.echo(f"Everything else is in {outcome.report}")
    if not outcome.reached:
        raise typer.Exit(1)
