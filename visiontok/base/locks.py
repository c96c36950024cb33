"""One writer per folder: a second one is told who the first is."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from visiontok.base.errors import FolderInUseError
from visiontok.base.files import LOCK, replacing

_ORPHAN_SECONDS = 15.0
"""How long the workers of a killed process are waited for; torch's look for their parent every five seconds."""


@contextmanager
def exclusive(folder: Path, name: str = "") -> Iterator[None]:
    """Keep every other process out of a folder, which is made if it is missing, or out of the file `name` in it.

    The operating system gives the lock back when the process ends, however it ends.

    Raises:
        FolderInUseError: naming the folder and the process that holds it.
        OSError: if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{LOCK}{f'-{name}' if name else ''}"
    holder = path.with_name(f"{path.name}.json")
    lock = FileLock(path, timeout=0)
    try:
        try:
            lock.acquire()
        except Timeout:
            if not _is_dead(holder):
                raise
            lock.acquire(timeout=_ORPHAN_SECONDS)
    except Timeout:
        raise FolderInUseError(
            f"{folder / name} is being written by {_in_words(holder)}. Wait until that ends or stop it, or choose another output"
        ) from None
    try:
        with replacing(holder) as temporary:
            temporary.write_text(json.dumps(_this_process()), encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _this_process() -> dict[str, str]:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:3]])  # without options, which may hold what is nobody's business
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"pid": str(os.getpid()), "host": platform.node(), "started": started, "command": command}


def _is_dead(holder: Path) -> bool:
    """Whether the process that took the lock ended, on this machine; workers that it forked can hold the lock until they notice."""
    try:
        known = json.loads(holder.read_text(encoding="utf-8"))
        if os.name == "nt" or known["host"] != platform.node():
            return False
        os.kill(int(known["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return False


def _in_words(holder: Path) -> str:
    try:
        known = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {known['pid']} on {known['host']} since {known['started']} ({known['command']})"
    except (OSError, ValueError, KeyError, TypeError):  # between its lock and its name
        return "another process"
