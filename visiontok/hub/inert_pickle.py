"""Training checkpoints whose pickle also holds arguments as ruamel.yaml's types, read without unpickling.

torch's safe reader refuses subclasses of list even where they are allowed, so the few files that hold them are read here. The opcodes are walked
through; what a file names is never imported or called: tensors, dictionaries, lists and plain values are built, the arguments become `Inert`, and
any other name refuses the file.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visiontok.base.errors import CheckpointError

ARGUMENTS = ("argparse.Namespace", "ruamel.yaml.")
"""Beginnings of the names of what is kept shut: how training scripts save their arguments."""

_STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_TENSOR, _PARAMETER, _DICT, _SET = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "collections.OrderedDict", "__builtin__.set"
_KNOWN = frozenset({_TENSOR, _PARAMETER, _DICT, _SET, *_STORAGES})
_PUSHED = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"})
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class Name:
    """What a pickle would import."""

    path: str


@dataclass(frozen=True, eq=False)
class Inert:
    """An object that was not built."""

    name: str


@dataclass(frozen=True)
class Storage:
    """Numbers of one tensor or of several, as they lie in the file."""

    key: str
    dtype: torch.dtype


def read_inert(path: Path) -> Any:
    """What torch.save wrote: tensors on the CPU and plain containers.

    Args:
        path: a file in torch's zip format.

    Raises:
        CheckpointError: if it names anything else than tensors, containers and `ARGUMENTS`.
        Exception: of many kinds, if it is damaged.
    """
    with zipfile.ZipFile(path) as file:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in file.infolist()):
            raise ValueError("its parts are compressed, which torch.save never does")
        record = next(name for name in file.namelist() if name.endswith("/data.pkl"))
        return _Walk(path, file, record.removesuffix("data.pkl")).run(file.read(record))


def foreign(path: Path, name: str) -> CheckpointError:
    """The error for a file that names what only unpickling could build."""
    return CheckpointError(
        f"{path} holds {name} beside its tensors and was not read, because a pickle can run code. "
        "Ask for a safetensors file, or convert it where you trust it."
    )


class _Walk:
    """One pass over the opcodes of a pickle of protocol 2."""

    def __init__(self, path: Path, file: zipfile.ZipFile, folder: str) -> None:
        self.path = path
        self.file = file
        self.folder = folder
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, pickle: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(pickle):
            self._step(opcode.name, argument)
        return self.stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _PUSHED:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[name])))
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "GLOBAL":
            stack.append(self._named(argument.replace(" ", ".", 1)))
        elif name in ("REDUCE", "NEWOBJ"):
            made, arguments = self._pop(2)
            stack.append(self._made(made.path, arguments))
        elif name == "BINPERSID":
            _, kind, key, _, _ = stack.pop()
            stack.append(Storage(key, _STORAGES[kind.path]))
        elif name == "BUILD":
            stack.pop()  # attributes of what stays shut, and metadata of state dicts
        elif name in ("APPEND", "APPENDS"):
            items = self._pop(1) if name == "APPEND" else self._since_mark()
            if isinstance(stack[-1], list):
                stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if name == "SETITEM" else self._since_mark()
            if isinstance(stack[-1], dict):
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name not in ("PROTO", "STOP"):
            raise ValueError(f"opcode {name} is none that torch.save writes")

    def _named(self, path: str) -> Name:
        if path in _KNOWN or path.startswith(ARGUMENTS):
            return Name(path)
        raise foreign(self.path, path)

    def _made(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == _TENSOR:
            return self._tensor(*arguments[:4])
        if name == _PARAMETER:
            return arguments[0]
        return {} if name == _DICT else Inert(name)

    def _tensor(self, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        numbers = bytearray(self.file.read(f"{self.folder}data/{storage.key}"))
        flat = torch.frombuffer(numbers, dtype=storage.dtype) if numbers else torch.empty(0, dtype=storage.dtype)
        return flat.as_strided(size, stride, offset)

    def _pop(self, count: int) -> list[Any]:
        popped = [self.stack.pop() for _ in range(count)]
        return popped[::-1]

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items
