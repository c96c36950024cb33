"""Ends a process at one of its file operations, chosen by number, as a kill or a power cut would: nothing is cleaned up."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

KILLED = 137
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}

context = multiprocessing.get_context("fork")


def watch(folder: Path, *, kill_at: int | None, log: Path | None = None) -> None:
    """Count the writing file operations within a folder in this process, and end it before number `kill_at`.

    Every file is whole or empty at such a moment; what is written without Python lies in between.
    """
    root, seen = str(folder), [0]
    told = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & _WRITES:
                return
        elif event in _OPERATIONS:
            path = arguments[0]
        else:
            return
        if not isinstance(path, str | bytes | os.PathLike):
            return
        name, within = os.fsdecode(path), event in ("os.remove", "os.rmdir") and arguments[1] != -1  # `shutil.rmtree` names files in an open folder
        if not (name.startswith(root) or within):
            return
        if told is not None:
            shown = os.fsdecode(arguments[1]) if event == "os.rename" else name
            os.write(told, f"{event} {shown.removeprefix(root)}\n".encode())
        if seen[0] == kill_at:
            os._exit(KILLED)
        seen[0] += 1

    sys.addaudithook(hook)


def operations(command: Callable[[Path], None], folder: Path) -> list[str]:
    """The writing file operations of a command on a folder, in order."""
    log = folder.with_name(f"{folder.name}.log")
    assert _run(command, folder, None, log) == 0
    return log.read_text().splitlines()


def kill(command: Callable[[Path], None], folder: Path, when: Callable[[int], None]) -> None:
    """Run a command in a process that somebody kills, who gets to know its id."""
    child = context.Process(target=command, args=(folder,))
    child.start()
    assert child.pid is not None
    when(child.pid)
    child.join(120)
    assert child.exitcode == -signal.SIGKILL


def kill_and_repeat(command: Callable[[Path], None], folder: Path, number: int) -> None:
    """Kill a command at one operation and run it again to its end, each in a process of its own."""
    assert _run(command, folder, number, None) == KILLED
    assert _run(command, folder, None, None) == 0


def one_of_each_kind(log: list[str]) -> list[int]:
    """The number of the first operation of every kind: those on the files of other steps and shards are left out."""
    kinds: dict[str, int] = {}
    for number, operation in enumerate(log):
        kinds.setdefault(re.sub(r"[0-9a-f]{12}|\d+|\w+(?=\.pt)", "#", operation), number)
    return list(kinds.values())


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder by its path within it, without lock files, which stay."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".lock")
    }


def _run(command: Callable[[Path], None], folder: Path, kill_at: int | None, log: Path | None) -> int | None:
    child = context.Process(target=_child, args=(command, folder, kill_at, log))
    child.start()
    child.join(120)
    return child.exitcode


def _child(command: Callable[[Path], None], folder: Path, kill_at: int | None, log: Path | None) -> None:
    watch(folder, kill_at=kill_at, log=log)
    command(folder)
