"""Tables on stdout, with Rich on a terminal and plain elsewhere; notes on results; names of output files."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import typer

from visiontok.base.file_names import file_stem
from visiontok.base.printable import printable, printable_lines

if TYPE_CHECKING:
    from torch import Tensor

    from visiontok.evaluation import Result
    from visiontok.signals.writing import SignalWriter


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: a line of column names, then one line per row, never truncated. Rich renders it on terminals that are wide enough."""
    columns, rows = [printable(cell) for cell in columns], [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    if sys.stdout.isatty() and sum(widths) + 2 * len(widths) <= shutil.get_terminal_size().columns:
        _print_rich(columns, rows)
        return
    for row in (columns, *rows):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_facts(facts: Mapping[str, str | Sequence[str]]) -> None:
    """`name: value`, one per line, without empty values; several values each have their own line below the name."""
    for name, value in facts.items():
        if isinstance(value, str) and value:
            typer.echo(printable_lines(f"{name}: {value}"))
        elif value:
            typer.echo(printable_lines("\n".join([f"{name}:", *(f"  {line}" for line in value)])))


def print_notes(results: Iterable[Result]) -> None:
    """On stderr, what belongs to the numbers of results: metrics that were omitted or failed, values that are not defined, and warnings."""
    lines = []
    for result in results:
        lines += [f"{metric} omitted for {result.title}: {reason}" for metric, reason in result.omitted.items()]
        lines += [f"{value.label} is not defined for {result.title}: {value.no_value}" for value in result.values if value.no_value]
        lines += [f"{metric} failed for {result.title}: {reason}" for metric, reason in result.failed.items()]
        lines += [f"warning: {result.title}: {warning}" for warning in result.warnings]
    for line in dict.fromkeys(lines):
        typer.echo(printable_lines(line), err=True)


def refuse_failures(results: Iterable[Result]) -> None:
    """End a command whose results are written with an error, if one of them is not complete.

    Raises:
        EvaluationError: naming the metrics that failed, and why.
    """
    from visiontok.base.errors import EvaluationError

    failed = list(dict.fromkeys(f"{metric} of {result.title}: {error}" for result in results for metric, error in result.failed.items()))
    if failed:
        raise EvaluationError(f"{len(failed)} metrics could not be computed, the others are written: {'; '.join(failed)}")


def save_signal(signal: Tensor, path: Path, writer: SignalWriter) -> None:
    """Write a signal (C, *axes), and say on stderr where it is at full scale."""
    clipped = writer.save(signal, path)
    if clipped:
        typer.echo(printable(f"{path}: {clipped} value{'s are' if clipped > 1 else ' is'} at full scale and may be clipped"), err=True)


def file_names(keys: Sequence[str], suffix: str) -> list[str]:
    """One file name per key, without folders, so that no key can escape the output folder; repeated names are numbered."""
    names: list[str] = []
    taken: set[str] = set()
    for row, key in enumerate(keys):
        stem = file_stem(PurePosixPath(key.replace("\\", "/")).stem) or str(row)
        number, name = 1, f"{stem}{suffix}"
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}{suffix}"
        taken.add(name.lower())
        names.append(name)
    return names


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
