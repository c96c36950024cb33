"""The command line: one file per command, each with one function.

A command's module is imported when the command or its help runs, and imports torch inside its function, so that `visiontok list` starts
quickly.
"""

from __future__ import annotations

from typing import Annotated

import typer

import visiontok
from visiontok.cli.commands import Commands

app = typer.Typer(
    name="visiontok",
    cls=Commands,
    help="Load, evaluate and train discrete tokenizers of images, video and audio, and generators on their tokens.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"visiontok {visiontok.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", envvar="VISIONTOK_DEBUG", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Options before the command; `Commands` reads `debug`."""


def main() -> None:
    """Entry point of the `visiontok` command."""
    app(prog_name="visiontok")
