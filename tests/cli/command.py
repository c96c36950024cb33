"""Running commands in this process."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from visiontok.cli import app


def run(*arguments: object) -> Result:
    """The command line with these arguments; anything but success and the exits that commands choose is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def succeed(*arguments: object) -> Result:
    """`run`, for commands that must succeed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: object) -> Exception:
    """The error that ends a command, which without `--debug` would be a paragraph on stderr."""
    result = CliRunner().invoke(app, ["--debug", *(str(argument) for argument in arguments)])
    assert isinstance(result.exception, Exception), result.output
    assert result.stdout == ""
    return result.exception
