"""The process that reads inputs: with limits, and with an eye on what reading does beside.

Its arguments are a folder to work in and the module that holds the entries. It takes requests on standard input, one JSON object a line, and
answers on standard output: which case begins, and how it ended.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from fuzzing.entry import Entry, Files, emptied, write_files
from fuzzing.mutate import case

CPU_SECONDS = 10
"""What one input may take; valid ones take milliseconds."""

WAITED_SECONDS = 40
"""What one input may take when it computes nothing, as one that waits for a pipe."""

MEMORY = 2**29
"""Bytes of memory that reading one input may take at a time."""

_ADDRESS_SPACE = 2**33
"""Bytes beyond those of the imports; more is refused by the system, so that a fault does not take the machine down."""

_EXECUTION = frozenset(
    {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pty.spawn", "socket.connect"}
)
_CHANGES = frozenset({"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.chmod", "os.truncate", "shutil.rmtree"})


class LimitError(BaseException):
    """Not an `Exception`, so that no reader takes it for damage."""


class Guard:
    """Notes what reading must not do: run programs, connect, or change files outside of a folder."""

    def __init__(self, folder: Path) -> None:
        self._allowed = (str(folder.resolve()), "/dev/null", "/proc/self")
        self._watching = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def start(self) -> None:
        self.seen, self._watching = [], True

    def stop(self) -> None:
        self._watching = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        if event in _EXECUTION:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event in _CHANGES:
            self._changed(event, arguments[:2] if event == "os.rename" else arguments[:1])
        elif event == "open":
            path, mode, flags = arguments
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if writes and isinstance(path, str | bytes):
                self._changed(event, (path,))

    def _changed(self, event: str, paths: tuple[Any, ...]) -> None:
        for path in paths:
            if isinstance(path, int):
                continue
            try:
                resolved = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(os.fsdecode(path)))), os.path.basename(os.fsdecode(path)))
            except ValueError:
                continue
            if not resolved.startswith(self._allowed) and "__pycache__" not in resolved:
                self.seen.append(f"{event} {resolved}")


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    warnings.simplefilter("ignore")
    scratch = Path(sys.argv[1])
    scratch.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(scratch)
    entries: dict[str, Entry] = importlib.import_module(sys.argv[2]).ENTRIES
    with open(os.devnull, "w") as nowhere:  # the errors of the imports are shown, what readers print is not
        os.dup2(nowhere.fileno(), 2)
    _limit_memory()
    guard = Guard(scratch)
    for line in sys.stdin:
        request = json.loads(line)
        entry = entries[request["entry"]]
        for number in range(request["first"], request["first"] + request["count"]):
            _say(answers, {"begin": number})
            folder = emptied(scratch / "input")
            write_files(folder, case(entry, bases(entry), request["seed"], number))
            found = run(entry, folder, guard)
            if "failed" in found:
                kept = Path(request["failures"]) / f"{entry.name}-{request['seed']}-{number}"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(folder, kept, symlinks=True, copy_function=_copy)
            _say(answers, {"end": number, **found})


@cache
def bases(entry: Entry) -> tuple[Files, ...]:
    """The valid inputs of an entry."""
    return tuple(entry.bases())


def run(entry: Entry, folder: Path, guard: Guard) -> dict[str, str]:
    """Read one input: {"read": ""}, {"refused": message}, or {"failed": what went wrong, "at": where, "traceback": all of it}."""
    import torch

    from visiontok.base.errors import VisiontokError

    torch.manual_seed(0)
    before = _reset_peak()
    guard.start()
    found: dict[str, str]
    try:
        with _Limits():
            entry.read(folder)
        found = {"read": ""}
    except (VisiontokError, *entry.documented) as error:
        found = _checked_message(error)
    except BaseException as error:
        found = _failure(error)
    finally:
        guard.stop()
        os.chdir(folder.parent)
    if "failed" not in found:
        used = _peak() - before
        if guard.seen:
            found = {"failed": f"reading did what it must not: {guard.seen[0]}", "at": guard.seen[0].split()[0], "traceback": "\n".join(guard.seen)}
        elif used > MEMORY:
            found = {"failed": f"reading took {used / 2**20:.0f} MiB", "at": "memory", "traceback": ""}
    return found


def _checked_message(error: Exception) -> dict[str, str]:
    """A message is one that can be printed and read."""
    message = str(error)
    if not message.strip() or len(message) > 100_000:
        return {"failed": f"the message of {type(error).__name__} has {len(message)} characters", "at": _where(error), "traceback": message[:2000]}
    try:
        message.encode("utf-8")
    except UnicodeEncodeError:
        return {"failed": f"the message of {type(error).__name__} is not UTF-8: {message!r:.300}", "at": _where(error), "traceback": ""}
    return {"refused": f"{type(error).__name__}: {message[:300]}"}


def _failure(error: BaseException) -> dict[str, str]:
    text = "".join(traceback.format_exception(error, limit=-12))[-4000:]
    return {"failed": f"{type(error).__name__}: {str(error)[:300]}", "at": f"{type(error).__name__} {_where(error)}", "traceback": text}


def _where(error: BaseException) -> str:
    """The last line of the library, or else of the entry, that the error passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/visiontok/" in frame.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"


class _Limits:
    """Ends what takes too long, where Python code runs or waits; what does not come back to Python is ended by the parent."""

    def __enter__(self) -> None:
        signal.signal(signal.SIGPROF, _too_long)
        signal.signal(signal.SIGALRM, _too_long)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, WAITED_SECONDS)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _too_long(number: int, frame: FrameType | None) -> None:
    raise LimitError(f"reading took more than {CPU_SECONDS} s" if number == signal.SIGPROF else f"reading waited {WAITED_SECONDS} s")


def _limit_memory() -> None:
    import resource

    used = next((int(line.split()[1]) * 1024 for line in _status() if line.startswith("VmSize")), None)
    if used is not None:
        resource.setrlimit(resource.RLIMIT_AS, (used + _ADDRESS_SPACE, resource.RLIM_INFINITY))


def _reset_peak() -> int:
    """Begin to count the peak anew; bytes in use now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return sys.maxsize  # peaks of single inputs are not told here
    return next((int(line.split()[1]) * 1024 for line in _status() if line.startswith("VmRSS")), sys.maxsize)


def _peak() -> int:
    return next((int(line.split()[1]) * 1024 for line in _status() if line.startswith("VmHWM")), 0)


def _status() -> list[str]:
    path = Path("/proc/self/status")
    return path.read_text().splitlines() if path.is_file() else []


def _copy(source: str, target: str) -> None:
    if os.path.isfile(source):
        shutil.copyfile(source, target)


def _say(answers: Any, answer: dict[str, object]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
