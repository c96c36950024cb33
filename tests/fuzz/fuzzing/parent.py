"""The process that asks for inputs to be read, and outlives what they do to the reader."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

PATIENCE = 120
"""Seconds without an answer after which the reader is ended."""

_ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Failure:
    """One input that was not read rightly.

    Attributes:
        entry, seed, case: which one.
        what: went wrong.
        at: where; failures of one kind in one place are one fault.
        traceback: of the error.
        folder: in which the input lies.
    """

    entry: str
    seed: int
    case: int
    what: str
    at: str
    traceback: str
    folder: Path

    @property
    def command(self) -> str:
        """Reads the input again."""
        return f"make fuzz ENTRY={self.entry} SEED={self.seed} CASE={self.case}"

    def __str__(self) -> str:
        return f"{self.entry}, seed {self.seed}, case {self.case}: {self.what}\n  input: {self.folder}\n  again: {self.command}\n{self.traceback}"


class Reader:
    """A child process that reads inputs, and is started again when one ends it."""

    def __init__(self, failures: Path, *, entries: str = "fuzzing.entries") -> None:
        """Start at the first request.

        Args:
            failures: folder for inputs that fail.
            entries: module with the entries.
        """
        self._failures, self._entries = failures, entries
        self._scratch = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def read(self, entry: str, *, seed: int, first: int = 0, count: int) -> tuple[dict[str, int], list[Failure]]:
        """Have inputs read; how many were read, refused and failed, and the failures."""
        counts = {"read": 0, "refused": 0, "failed": 0}
        found: list[Failure] = []
        end = first + count
        while first < end:
            self._ask({"entry": entry, "seed": seed, "first": first, "count": end - first, "failures": str(self._failures)})
            begun = None
            while first < end:
                answer = self._answer()
                if answer is None:
                    if begun is None:
                        raise RuntimeError(f"the reader ended before it read an input of {entry}: is the package installed?")
                    ended = self._end()
                    folder = self._keep(f"{entry}-{seed}-{begun}")
                    what = "the reader did not come back" if ended is None else f"the reader ended with code {ended}"
                    found.append(Failure(entry, seed, begun, what, what, "", folder))
                    counts["failed"] += 1
                    first = begun + 1
                    break
                if "begin" in answer:
                    begun = int(answer["begin"])
                    continue
                first = int(answer["end"]) + 1
                outcome = next(kind for kind in counts if kind in answer)
                counts[outcome] += 1
                if outcome == "failed":
                    folder = self._failures / f"{entry}-{seed}-{first - 1}"
                    found.append(Failure(entry, seed, first - 1, answer["failed"], answer["at"], answer["traceback"], folder))
        return counts, found

    def _ask(self, request: dict[str, object]) -> None:
        if self._process is None:
            path = os.pathsep.join([str(_ROOT / "tests" / "fuzz"), str(_ROOT / "tests"), str(_ROOT), os.environ.get("PYTHONPATH", "")])
            environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
            environment |= {name: str(self._scratch / "cache") for name in ("HF_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCH_HOME")}
            command = [sys.executable, "-m", "fuzzing.child", str(self._scratch), self._entries]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any] | None:
        """The next answer; None if the reader ended or does not come back."""
        assert self._process is not None
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
            data = os.read(self._process.stdout.fileno(), 2**16) if ready else b""
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _end(self) -> int | None:
        """The code of a reader that ended by itself; None for one that had to be ended."""
        if self._process is None:
            return None
        process, self._process, self._buffer = self._process, None, b""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            code = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
        process.stdin.close()
        process.stdout.close()
        return code

    def _keep(self, name: str) -> Path:
        kept = self._failures / name
        shutil.rmtree(kept, ignore_errors=True)
        if (self._scratch / "input").is_dir():
            shutil.copytree(self._scratch / "input", kept, symlinks=True, copy_function=_copy)
        return kept


def _copy(source: str, target: str) -> None:
    if os.path.isfile(source):
        shutil.copyfile(source, target)
