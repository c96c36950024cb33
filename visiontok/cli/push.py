"""`visiontok push`: publish a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with a saved model: config.json, model.safetensors, README.md.")],
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY", help="owner/name; made if it is missing.")],
    private: Annotated[bool | None, typer.Option("--private/--public", help="Who sees a new repository; by default what the owner set.")] = None,
    token: Annotated[str | None, typer.Option(envvar="HF_TOKEN", help="Access token; by default the one of `hf auth login`.")] = None,
) -> None:
    """Upload a model folder to the hub.

    Weights, configuration and model card arrive in one commit; nothing else that lies in the folder is uploaded.

    \b
    Examples:
      visiontok push runs/digits/final me/titok-digits
      visiontok push runs/digits-gpt/final me/digits-gpt --private
    """
    from visiontok.hub import push_folder

    typer.echo(push_folder(folder, repository, private=private, token=token))
