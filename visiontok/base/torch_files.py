"""Files of `torch.save`: written so that a full disk is an error of the operating system, and read without running or nesting anything too deep."""

from __future__ import annotations

import errno
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from visiontok.base.files import check_regular

LARGEST_PICKLE = 2**28
"""Bytes of opcodes, without the tensors' elements, which are stored beside them."""

MAX_DEPTH = 1000
"""Tuples within tuples. Python's hash of a tuple takes a step down the C stack for each of them, so that a file could crash the process."""

_ZIP = b"PK\x03\x04"
_LEGACY_PICKLES = 5
_FILL = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"})  # a container that is on the stack already


def write_torch(path: Path, value: Any) -> None:
    """`torch.save` into a file, which is not synced.

    Raises:
        OSError: naming the path, if it cannot be written, for example because the disk is full.
    """
    failed: OSError | None = None
    try:
        with path.open("wb") as file:
            try:
                torch.save(value, file)
            except OSError as error:
                failed = error
            except RuntimeError as error:  # torch's own writer, which is called back while the file's error passes through it
                failed = error.__context__ if isinstance(error.__context__, OSError) else OSError(errno.EIO, str(error).splitlines()[0])
    except OSError as error:
        failed = failed or error
    if failed is not None:
        raise OSError(failed.errno, failed.strerror, str(path)) from failed


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote: tensors on the CPU and plain containers; nothing is imported or called.

    Raises:
        OSError: if there is no such regular file.
        pickle.UnpicklingError: if it names what only unpickling could build.
        Exception: of many kinds, if it is damaged.
    """
    check_nesting(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def check_nesting(path: Path) -> None:
    """Walk through all pickles of a file, without building anything.

    Raises:
        ValueError: if tuples are nested deeper than `MAX_DEPTH`, or it holds too many opcodes or none that are known.
        OSError: if there is no such regular file.
    """
    with check_regular(path).open("rb") as file:
        if file.read(4) == _ZIP:
            with zipfile.ZipFile(file) as archive:
                for entry in archive.infolist():
                    if entry.filename.endswith(".pkl"):
                        if entry.file_size > LARGEST_PICKLE:
                            raise ValueError(f"{entry.filename} has {entry.file_size} bytes; at most {LARGEST_PICKLE} are read")
                        with archive.open(entry) as pickle:
                            _check_pickle(pickle)
            return
        file.seek(0)
        for _ in range(_LEGACY_PICKLES):  # in the older format one behind the other, and then the elements
            _check_pickle(file)


def _check_pickle(file: IO[bytes]) -> None:
    """Follow the depth of every value on the unpickler's stack."""
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[Any, int] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name, before = opcode.name, opcode.stack_before
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        else:
            marked = pickletools.markobject in before
            start = marks.pop() - before.index(pickletools.markobject) if marked else len(stack) - len(before)
            if start < 0:
                raise ValueError(f"the opcode {name} takes more values than there are")
            taken = stack[start:]
            del stack[start:]
            inner = taken[1:] if name in _FILL else taken
            depth = max(1 + max(inner) if inner else 0, taken[0] if name in _FILL else 0)
            if depth > MAX_DEPTH:
                raise ValueError(f"its values are nested more than {MAX_DEPTH} levels deep")
            stack += [depth] * len(opcode.stack_after)
