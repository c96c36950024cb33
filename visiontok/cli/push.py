"""`visiontok push`: publish a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A folder with a saved model, or that of a training run: its final/.")],
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY", help="owner/name; made if it is missing.")],
    result: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A result of `visiontok evaluate` for this model, to be shown on its card; may be given several times."),
    ] = None,
    private: Annotated[bool | None, typer.Option("--private/--public", help="Who sees a new repository; by default what the owner set.")] = None,
    token: Annotated[str | None, typer.Option(envvar="HF_TOKEN", help="Access token; by default the one of `hf auth login`.")] = None,
) -> None:
    """Upload a model folder to the hub.

    Weights, configuration and model card are uploaded in one commit; nothing else in the folder is. With --result, the card in the folder
    first gets the metrics of these results; a result of other weights is refused.

    \b
    Examples:
      visiontok push runs/digits me/titok-digits --result eval/results/digits--final.json
      visiontok push runs/digits-gpt/final me/digits-gpt --private
    """
    from visiontok.hub import add_results, push_folder

    if result:
        from visiontok.evaluation.results.card import card_results
        from visiontok.evaluation.results.result import Result

        add_results(folder, [line for path in result for line in card_results(Result.load(path))])
    typer.echo(push_folder(folder, repository, private=private, token=token))
