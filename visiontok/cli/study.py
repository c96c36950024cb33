"""`visiontok study`: test a claim about tokenizers by experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiontok.base.errors import ConfigError
from visiontok.base.files import check_writable, clear_stale
from visiontok.cli.completion import complete_studies
from visiontok.cli.output import print_table


def study(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Bundled study, or a YAML file; without it, list the studies.", autocompletion=complete_studies),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="0,1,2", help="Seeds to run, instead of the study's own.")] = "",
    runs: Annotated[Path, typer.Option(help="Folder of the training runs.")] = Path("runs/studies"),
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder for NAME.json and NAME.html.")] = Path("eval/results/studies"),
    page: Annotated[Path | None, typer.Option(metavar="FILE.md", help="Also write a Markdown page over all results in the output folder.")] = None,
) -> None:
    """Train and evaluate the tokenizers and generators of a study over several seeds, and report its findings.

    Runs on the CPU. Finished runs are reused, and a stopped run resumes from its checkpoint when the command is repeated.

    \b
    Examples:
      visiontok study
      visiontok study dimension-wise-levels --seeds 0
      visiontok study latent-perturbation --page docs/studies.md
      visiontok study my.yaml --runs my-runs -o my-results
    """
    from visiontok.studies import list_studies, load_study, run_study

    if name is None:
        print_table(("study", "question"), [(known, load_study(known).title) for known in list_studies()])
    else:
        from visiontok.studies.report import write_study
        from visiontok.studies.tables import runs_of, shown

        check_writable(output)
        clear_stale(output)
        stem = Path(name).stem
        result = run_study(load_study(name), name=stem, root=runs / stem, seeds=_numbers(seeds))
        result.save(output / f"{stem}.json")
        write_study(output / f"{stem}.html", result, root=runs / stem)
        rows = [(each.data, each.statistic, shown(each), each.reading, runs_of(each)) for each in result.findings]
        print_table(("data", "statistic", "value", "reading", "over"), rows)
        typer.echo(f"{output / stem}.json, {output / stem}.html")
    if page is not None:
        from visiontok.studies.page import write_page

        write_page(output, page)
        typer.echo(f"{page}: written")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ConfigError(f"--seeds {text!r} is not a list of integers such as 0,1,2") from None
