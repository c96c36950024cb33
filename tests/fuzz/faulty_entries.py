"""Readers with a fault of every kind that the fuzzer finds."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fuzzing.entry import Entry, Files

from visiontok.base.errors import DataError


def _bases() -> list[Files]:
    return [{"x.txt": b"valid"}, {"x.txt": b"valid too"}]


def _wrong_error(folder: Path) -> None:
    raise ValueError("not one of the library's")


def _wrong_result(folder: Path) -> None:
    raise AssertionError("two samples where there is one")


def _crash(folder: Path) -> None:
    os.kill(os.getpid(), 9)


def _code(folder: Path) -> None:
    os.system("true")


def _write(folder: Path) -> None:
    with suppress(FileNotFoundError):
        open(folder.parent.parent / "no-such-folder" / "x.txt", "a").close()


def _memory(folder: Path) -> None:
    assert len(bytes(b"x" * 6 * 10**8)) > 0


def _message(folder: Path) -> None:
    raise DataError("\ud800 is damaged")


_READERS: dict[str, Callable[[Path], None]] = {
    "wrong-error": _wrong_error,
    "wrong-result": _wrong_result,
    "crash": _crash,
    "code": _code,
    "write": _write,
    "memory": _memory,
    "message": _message,
}
ENTRIES = {name: Entry(name, _bases, read, cases=2) for name, read in _READERS.items()}
