"""`visiontok leaderboard`: the page over a folder of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def leaderboard(
    results: Annotated[Path, typer.Argument(metavar="[RESULTS]", help="Folder of results.")] = Path("eval/results"),
    output: Annotated[Path, typer.Option("--output", "-o", help="Markdown page to write.")] = Path("eval/README.md"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; end with exit code 1 if the page is not up to date.")] = False,
) -> None:
    """Write the leaderboard from results.

    \b
    Examples:
      visiontok leaderboard
      visiontok leaderboard my-results -o my-results/README.md
      visiontok leaderboard --check
    """
    from visiontok.evaluation.results.leaderboard import leaderboard as page_of
    from visiontok.evaluation.results.leaderboard import write_leaderboard

    if check:
        if not output.is_file() or output.read_text(encoding="utf-8") != page_of(results):
            typer.echo(f"{output} is not up to date; write it again with: visiontok leaderboard {results} -o {output}", err=True)
            raise typer.Exit(1)
        typer.echo(f"{output} is up to date")
        return
    write_leaderboard(results, output)
    typer.echo(f"{output}: written")
