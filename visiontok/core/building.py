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
_MAX_CALLS = 40_000  # where there are no weights: seconds on the meta device; the largest released models need 7,000
_VALUES_ONLY = frozenset({"add_", "clamp_", "copy_", "div_", "erfinv_", "fill_", "kaiming_uniform_", "mul_", "normal_", "sub_", "uniform_", "zero_"})
_DRAWN_IN_PLACE = frozenset({"normal_", "uniform_", "kaiming_uniform_", "kaiming_normal_"})
_CONSTANT = {torch.randn: torch.zeros, torch.rand: torch.zeros, torch.randn_like: torch.zeros_like, torch.rand_like: torch.zeros_like}


def build_with_weights(build: Callable[[], ModelT], state_dict: Mapping[str, Tensor], *, source: str, dtype: torch.dtype = torch.float32) -> ModelT:
    """A model with weights that must fit exactly, in evaluation mode, on the CPU; on the meta device where weights are.

    It is built on the meta device first, which takes no memory, and compared with the weights; only then it is built again, with constants in place
    of random draws. Buffers that no file holds are thus what the constructor computes, and nothing larger than the weights, or `MAX_TABLE_BYTES`,
    is allocated; torch's global random state stays as it is.

    Args:
        build: calls the model's constructor.
        state_dict: every parameter and persistent buffer; floats of other width are converted.
        source: whose weights, for errors.
        dtype: of the model's floats.

    Raises:
        CheckpointError: listing missing, unknown and wrongly shaped tensors, and those of another kind of dtype.
        ConfigError: if the constructor refuses the configuration.
    """
    most, too_large = _limit(state_dict, source)
    outline = check_fits(build, state_dict, source=source)
    expected = outline.state_dict()
    tables = _bytes(buffer for name, buffer in outline.named_buffers() if name not in expected)
    if tables > MAX_TABLE_BYTES:
        raise ConfigError(f"the configuration of {source} asks for tables of {tables} bytes; at most {MAX_TABLE_BYTES} are computed")
    if any(tensor.is_meta for tensor in state_dict.values()):
        return outline.eval()
    with torch.device("cpu"), _WithoutDraws(most, too_large):
        model = _built(build)
    model.to(dtype).load_state_dict(dict(state_dict))
    return model.eval()


def check_fits(build: Callable[[], ModelT], state_dict: Mapping[str, Tensor], *, source: str) -> ModelT:
    """The model on the meta device, if the weights have its names, shapes and kinds of dtype. Takes no memory for either.

    Raises:
        CheckpointError, ConfigError: as `build_with_weights`.
    """
    outline = _outline(build, *_limit(state_dict, source))
    check_state_dict(outline.state_dict(), state_dict, source=source)
    return outline


def build_new(build: Callable[[], ModelT]) -> ModelT:
    """A model with random weights, drawn from torch's global state.

    Raises:
        ConfigError: if the constructor refuses the configuration, or the model is larger than this machine's memory.
    """
    if torch.get_default_device().type != "meta":
        too_large = ConfigError(f"the configuration describes a model that is built in more than {_MAX_CALLS} steps; check its depths")
        outline = _outline(build, _MAX_CALLS, too_large)
        size, memory = _bytes([*outline.parameters(), *outline.buffers()]), _physical_memory()
        if size > memory:
            given = f"a model of {size / 2**30:.1f} GiB; this machine has {memory / 2**30:.1f} GiB"
            raise ConfigError(f"the configuration describes {given}: check its sizes")
    return _built(build)


def _limit(state_dict: Mapping[str, Tensor], source: str) -> tuple[int, CheckpointError]:
    """Calls of torch within which a model of so many tensors is built, and the error about one that needs more."""
    return _CALLS_BESIDE + _CALLS_PER_TENSOR * len(state_dict), CheckpointError(
        f"the configuration describes a model of far more tensors than the {len(state_dict)} in the weights of {source}. "
        "Check that the configuration belongs to these weights"
    )


def _outline(build: Callable[[], ModelT], most_calls: int, too_many: VisiontokError) -> ModelT:
    """The model without memory: shapes and dtypes only."""
    with torch.device("meta"), _Outlining(most_calls, too_many):
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
        if getattr(func, "__name__", None) == "_set_grad_enabled":  # also the end of `no_grad`, which must not fail
            return func(*args, **(kwargs or {}))
        self._left -= 1
        if self._left < 0:
            raise self._error
        return self.call(func, args, dict(kwargs or {}))

    def call(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """What a call of torch gives."""
        return func(*args, **kwargs)


class _Outlining(_Limited):
    """Omits what gives values to tensors on the meta device, which hold none."""

    def call(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        target = args[0] if args else kwargs.get("tensor")
        if getattr(func, "__name__", None) in _VALUES_ONLY and isinstance(target, Tensor) and target.is_meta:
            return target
        return func(*args, **kwargs)


class _WithoutDraws(_Limited):
    """Constants in place of draws from torch's global state: the weights replace them."""

    def call(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        if getattr(func, "__name__", None) in _DRAWN_IN_PLACE:  # by name: transformers wraps the functions of torch.nn.init
            target = args[0] if args else kwargs["tensor"]
            given = args[1] if len(args) > 1 else kwargs.get("mean", kwargs.get("from", 0.0))  # within the range, for samplers that reject
            with torch.no_grad():
                return target.fill_(given)
        if func in _CONSTANT:
            kwargs.pop("generator", None)
        return _CONSTANT.get(func, func)(*args, **kwargs)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _physical_memory() -> float:
    """In bytes; infinite where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")
