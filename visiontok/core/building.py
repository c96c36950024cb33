"""Models from configurations that may be mistaken or hostile: sizes are known before memory is taken for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from visiontok.base.errors import CheckpointError, ConfigError, VisiontokError
from visiontok.core.keymap import check_state_dict

ModelT = TypeVar("ModelT", bound=nn.Module)

MAX_TABLE_BYTES = 2**31
"""The most that tables which a model computes when it is built, and which are in no file, may take."""

_CALLS_PER_TENSOR, _CALLS_BESIDE = 32, 2048  # of torch while a model is built; the families need less than 8 per tensor
_MAX_CALLS = 200_000  # where there are no weights: seconds on the meta device
_DRAWN_IN_PLACE = frozenset({"normal_", "uniform_", "kaiming_uniform_", "kaiming_normal_", "trunc_normal_"})  # transformers wraps those of torch.nn.init
_DRAWN = {torch.randn: torch.empty, torch.rand: torch.empty, torch.randn_like: torch.empty_like, torch.rand_like: torch.empty_like}


def build_with_weights(build: Callable[[], ModelT], state_dict: Mapping[str, Tensor], *, source: str) -> ModelT:
    """A model with weights that must fit exactly, in evaluation mode, on the CPU.

    It is built on the meta device first, which takes no memory, and compared with the weights; only then it is built again, without random draws.
    Buffers that no file holds are thus what the constructor computes, and nothing larger than the weights, or `MAX_TABLE_BYTES`, is allocated.

    Args:
        build: calls the model's constructor.
        state_dict: every parameter and persistent buffer; floats of other width are converted.
        source: whose weights, for errors.

    Raises:
        CheckpointError: listing missing, unknown and wrongly shaped tensors, and those of another kind of dtype.
        ConfigError: if the constructor refuses the configuration.
    """
    most = _CALLS_BESIDE + _CALLS_PER_TENSOR * len(state_dict)
    too_many = f"the configuration describes a model of far more tensors than the {len(state_dict)} in the weights of {source}"
    outline = _outline(build, most, CheckpointError(f"{too_many}. Check that the configuration belongs to these weights"))
    expected = outline.state_dict()
    check_state_dict(expected, state_dict, source=source)
    tables = _bytes(buffer for name, buffer in outline.named_buffers() if name not in expected)
    if tables > MAX_TABLE_BYTES:
        raise ConfigError(f"the configuration of {source} asks for tables of {tables} bytes; at most {MAX_TABLE_BYTES} are computed")
    with torch.device("cpu"), _WithoutDraws():
        model = _built(build)
    model.load_state_dict(dict(state_dict))
    return model.eval()


def build_new(build: Callable[[], ModelT]) -> ModelT:
    """A model with random weights, drawn from torch's global state.

    Raises:
        ConfigError: if the constructor refuses the configuration, or the model is larger than this machine's memory.
    """
    if torch.get_default_device().type != "meta":
        outline = _outline(build, _MAX_CALLS, ConfigError(f"the configuration describes a model built in more than {_MAX_CALLS} steps; check its depths"))
        size, memory = _bytes([*outline.parameters(), *outline.buffers()]), _physical_memory()
        if size > memory:
            raise ConfigError(f"the configuration describes a model of {size / 2**30:.1f} GiB; this machine has {memory / 2**30:.1f} GiB: check its sizes")
    return _built(build)


def _outline(build: Callable[[], ModelT], most_calls: int, too_many: VisiontokError) -> ModelT:
    """The model without memory: shapes and dtypes only."""
    with torch.device("meta"), _Limited(most_calls, too_many):
        return _built(build)


def _built(build: Callable[[], ModelT]) -> ModelT:
    try:
        return build()
    except VisiontokError:
        raise
    except Exception as error:  # constructors, those of other libraries too, fail on sizes in as many ways as there are sizes
        reason = str(error).strip().partition("\n")[0][:300]
        raise ConfigError(f"no model can be built from this configuration: {type(error).__name__}: {reason}. Check its sizes") from error


class _Limited(TorchFunctionMode):
    """Stops a constructor that calls torch more than a number of times."""

    def __init__(self, most: int, error: VisiontokError) -> None:
        super().__init__()
        self._left, self._error = most, error

    def __torch_function__(self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        self._left -= 1
        if self._left < 0:
            raise self._error
        return func(*args, **(kwargs or {}))


class _WithoutDraws(TorchFunctionMode):
    """Leaves tensors uninitialized where they would be drawn from torch's global state: the weights take their place."""

    def __torch_function__(self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given = dict(kwargs or {})
        if given.get("generator") is None:
            if getattr(func, "__name__", None) in _DRAWN_IN_PLACE:
                return args[0] if args else given["tensor"]
            if func in _DRAWN:
                func = _DRAWN[func]
                given.pop("generator", None)
        return func(*args, **given)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _physical_memory() -> float:
    """In bytes; infinite where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")
