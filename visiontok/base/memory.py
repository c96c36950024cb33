"""Memory that a call takes, on any device."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(run: Callable[[], object]) -> int:
    """The most memory that the tensors which a call makes take at one time, forward and backward, with those that it leaves.

    What single operations of torch use and free again is not seen, so that the number is the same on every device.
    """
    with _Counter() as counter:
        result = run()  # held meanwhile, as by a caller
    del result
    return counter.highest


class _Counter(TorchDispatchMode):
    """Follows the storages of the results of all operations until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.highest = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_storage(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and (storage := _storage(value)) not in given and storage not in self._known:
                self._known.add(storage)
                self.held += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.nbytes())
        self.highest = max(self.highest, self.held)
        return result

    def _freed(self, size: int) -> None:
        self.held -= size


def _storage(tensor: Tensor) -> Any:
    return tensor.untyped_storage()
