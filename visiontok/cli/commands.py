"""The group of commands, and how a command ends on an error: one paragraph on stderr and a conventional exit code."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from visiontok.base.errors import VisiontokError
from visiontok.base.names import unknown
from visiontok.base.printable import printable_lines

INTERRUPTED = 130
"""The exit code of a process that SIGINT ended: 128 + 2."""

FUNCTIONS = {
    "list": "list_models",
    "info": "info",
    "encode": "encode",
    "decode": "decode",
    "reconstruct": "reconstruct",
    "tokenize": "tokenize",
    "train": "train",
    "evaluate": "evaluate",
    "evaluate rd": "evaluate_rd",
    "compare": "compare",
    "leaderboard": "leaderboard",
    "generate": "generate",
    "quantize": "quantize",
    "study": "study",
    "demo": "demo",
    "push": "push",
    "export": "export",
    "verify": "verify",
}
"""Commands in the order of `--help`, each in the module of its name (`evaluate_rd`), and the function there."""


class Commands(TyperGroup):
    """The group of all commands. Expected errors become one paragraph and exit code 1; with `--debug` they keep their traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*FUNCTIONS]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Names of two words, such as `evaluate rd`, go before those of one. An unknown command is a usage error that lists the close ones."""
        two = " ".join(args[:2])
        if len(args) > 1 and two in FUNCTIONS:
            return two, self.get_command(ctx, two), args[2:]
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-"):
            ctx.fail(str(unknown("command", name, known, see="visiontok --help")))
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in FUNCTIONS:
            return None
        alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        alone.command(cmd_name)(getattr(importlib.import_module(f"visiontok.cli.{cmd_name.replace(' ', '_')}"), FUNCTIONS[cmd_name]))
        return get_command(alone)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise  # the reader of our output closed the pipe: the group's base class ends the process without a message
        except (VisiontokError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"Error: {printable_lines(explain(error))}", err=True)
            raise typer.Exit(1) from None


def explain(error: Exception) -> str:
    """The paragraph for an error: operating system errors name their file first, without the error number."""
    if isinstance(error, OSError) and not isinstance(error, VisiontokError) and error.strerror:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return f"{' -> '.join(names)}: {error.strerror}" if names else error.strerror
    return str(error) or type(error).__name__
