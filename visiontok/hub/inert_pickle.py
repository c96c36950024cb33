"""Pickles in torch's zip format, read without unpickling: the opcodes are walked through, and what they name is never imported or called.

torch's safe reader refuses subclasses of list even where they are allowed, and TorchScript archives altogether, so the few files that hold these
are read here. Tensors, dictionaries, lists and plain values are built; any other name either stays `Inert` or refuses the file.
"""

from __future__ import annotations

import math
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visiontok.base.errors import CheckpointError
from visiontok.base.torch_files import LARGEST_PICKLE

ARGUMENTS = ("argparse.Namespace", "ruamel.yaml.")
"""Beginnings of the names of what is never built: how training scripts save their arguments."""

LARGEST_EXPANDED = 2**24
"""Elements of a tensor whose strides repeat elements of its storage."""

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
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
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


@dataclass(eq=False)
class Inert:
    """An object that was not built.

    Attributes:
        name: of its class.
        state: what the pickle would set on it; None if nothing.
    """

    name: str
    state: Any = None


@dataclass(frozen=True)
class Storage:
    """Elements of one tensor or of several, as the file stores them."""

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
        record = next(name for name in file.namelist() if name.endswith("/data.pkl"))
        return OpcodeReader(path, file, record).run()


def foreign(path: Path, name: str) -> CheckpointError:
    """The error for a file that names what only unpickling could build."""
    return CheckpointError(
        f"{path} holds {name} beside its tensors and was not read, because a pickle can run code. "
        "If you trust its source, load it with torch and save its state dict alone."
    )


class OpcodeReader:
    """One pass over the opcodes of a pickle of protocol 2. Subclasses say what further names may stand in it."""

    def __init__(self, path: Path, file: zipfile.ZipFile, record: str) -> None:
        """Take the pickle out of its archive.

        Args:
            path: of the archive, for messages.
            file: the archive.
            record: the pickle within it, ".../data.pkl"; its tensors' elements are in ".../data/".

        Raises:
            ValueError: if it is compressed, too large, or of another byte order.
        """
        self.path = path
        self.file = file
        self.record = record
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[Storage, Tensor] = {}
        byteorder = f"{record.rpartition('/')[0]}/byteorder"
        if byteorder in file.namelist() and file.read(byteorder) != b"little":
            raise ValueError("its elements are big-endian")

    def run(self) -> Any:
        """The value that the pickle describes."""
        for opcode, argument, _ in pickletools.genops(self._stored(self.record, LARGEST_PICKLE)):
            self._step(opcode.name, argument)
        return self.stack.pop()

    def named(self, path: str) -> Name:
        """A global name of the pickle.

        Raises:
            CheckpointError: if it may not stand in the file.
        """
        if path in _KNOWN or path.startswith(ARGUMENTS):
            return Name(path)
        raise foreign(self.path, path)

    def made(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """What a call of the name would make."""
        if name == _TENSOR:
            return self._tensor(*arguments[:4])
        if name == _PARAMETER:
            return arguments[0]
        return {} if name == _DICT else Inert(name)

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
            stack.append(self.named(argument.replace(" ", ".", 1)))
        elif name in ("REDUCE", "NEWOBJ"):
            made, arguments = self._pop(2)
            stack.append(self.made(made.path, arguments))
        elif name == "BINPERSID":
            _, kind, key, _, _ = stack.pop()
            stack.append(Storage(key, _STORAGES[kind.path]))
        elif name == "BUILD":
            state = stack.pop()  # attributes of inert objects, and metadata of state dicts
            if isinstance(stack[-1], Inert):
                stack[-1].state = state
        elif name in ("APPEND", "APPENDS"):
            items = self._pop(1) if name == "APPEND" else self._since_mark()
            if isinstance(stack[-1], list):
                stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if name == "SETITEM" else self._since_mark()
            if isinstance(stack[-1], dict):
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name not in ("PROTO", "STOP"):
            raise ValueError(f"opcode {name} is none that torch writes")

    def _tensor(self, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        if storage not in self.storages:
            content = bytearray(self._stored(f"{self.record.removesuffix('.pkl')}/{storage.key}"))
            empty = torch.empty(0, dtype=storage.dtype)
            self.storages[storage] = torch.frombuffer(content, dtype=storage.dtype) if content else empty
        flat = self.storages[storage]
        if math.prod(size) > max(flat.numel(), LARGEST_EXPANDED):
            raise ValueError(f"a tensor of {math.prod(size)} elements repeats the {flat.numel()} that are stored")
        return flat.as_strided(size, stride, offset)

    def _stored(self, record: str, largest: int | None = None) -> bytes:
        entry = self.file.getinfo(record)
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{record} is compressed, which torch never does")
        if largest is not None and entry.file_size > largest:
            raise ValueError(f"{record} has {entry.file_size} bytes; at most {largest} are read")
        return self.file.read(entry)

    def _pop(self, count: int) -> list[Any]:
        popped = [self.stack.pop() for _ in range(count)]
        return popped[::-1]

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items
