"""The tensors of a TorchScript archive (`torch.jit.save`), read without its code being run or compiled.

A module is an object whose state maps the names of its attributes to tensors, submodules and plain values; the names of its tensors follow from the
attributes on the way to them. Buffers that are not persistent are stored as well, so key maps must name what they ignore.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from torch import Tensor

from visiontok.base.errors import CheckpointError
from visiontok.hub.inert_pickle import Inert, Name, OpcodeReader

_CLASSES = "__torch__."
_CUSTOM_CLASSES = "__torch__.torch.classes."
_LISTS = tuple(f"torch.jit._pickle.build_{kind}list" for kind in ("int", "double", "bool", "tensor"))
_TYPED = "torch.jit._pickle.restore_type_tag"
_PLAIN = frozenset({"torch.device"})
_MOST_MODULES = 100_000


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, of the present format or an older one."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any(name.endswith(("/constants.pkl", "/model.json")) or "/code/" in name for name in file.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Parameters, buffers and other tensor attributes by their dotted names, on the CPU.

    Raises:
        CheckpointError: if the archive is of the old format, was frozen, or holds objects that are no modules.
        Exception: of many kinds, if it is damaged.
    """
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        record = next((name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")), None)
        if record is None:
            raise CheckpointError(f"{path} is a TorchScript archive of torch before 1.4; load it with torch.jit.load and save it again")
        tensors = _tensors(_ScriptReader(path, file, record).run(), path)
        if not tensors and any(name.startswith(record.removesuffix("data.pkl") + "constants/") for name in names):
            raise CheckpointError(
                f"{path} was frozen (torch.jit.freeze): its weights are constants of its code and have no names. Ask for the archive before freezing"
            )
    return tensors


class _ScriptReader(OpcodeReader):
    """Objects of scripted classes stay inert, with their state; typed containers become plain ones."""

    def named(self, path: str) -> Name:
        if path.startswith(_CUSTOM_CLASSES):
            raise CheckpointError(
                f"{self.path} holds an object of the C++ class {path.removeprefix(_CUSTOM_CLASSES)}, such as packed weights of a quantized layer; "
                "only modules whose weights are tensors can be read"
            )
        if path.startswith(_CLASSES) or path in (*_LISTS, _TYPED, *_PLAIN):
            return Name(path)
        return super().named(path)

    def made(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name in _LISTS or name == _TYPED:
            return arguments[0]
        if name.startswith(_CLASSES) and arguments:
            raise ValueError(f"{name} is built from arguments, which torch.jit.save never does")
        return Inert(name) if name.startswith(_CLASSES) or name in _PLAIN else super().made(name, arguments)


def _tensors(root: Any, path: Path) -> dict[str, Tensor]:
    """Every module's tensors by the names of the attributes that lead to them; a module in two places has them under both names."""
    found: dict[str, Tensor] = {}
    waiting = [("", root)]
    counted = 0
    while waiting:
        prefix, module = waiting.pop()
        if not isinstance(module, Inert) or not module.name.startswith(_CLASSES) or not isinstance(module.state, dict):
            kind = module.name if isinstance(module, Inert) else type(module).__name__
            raise CheckpointError(f"{path} holds {kind} at {prefix.rstrip('.') or 'its root'}, whose state is not that of a module")
        counted += 1
        if counted > _MOST_MODULES:
            raise CheckpointError(f"{path} holds more than {_MOST_MODULES} modules, or modules that contain themselves")
        found |= {prefix + name: value for name, value in module.state.items() if isinstance(value, Tensor)}
        inner = [(f"{prefix}{name}.", value) for name, value in module.state.items() if isinstance(value, Inert) and value.name.startswith(_CLASSES)]
        waiting += reversed(inner)
    return found
