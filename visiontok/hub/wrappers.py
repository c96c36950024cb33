"""What training scripts put around a model's tensors: containers such as Lightning's "state_dict" and prefixes such as DDP's "module."."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from visiontok.base.errors import CheckpointError
from visiontok.core.keymap import KeyMap

RAW_CONTAINERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params", "generator")
EMA_CONTAINERS = ("ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "params_ema", "shadow")
CONTAINERS = (*RAW_CONTAINERS, *EMA_CONTAINERS)
"""Entries that hold a state dict, in order of preference where nobody names one: so weights of the last step before averages."""

RAW_PREFIXES = ("model.", "net.", "network.", "module.", "tokenizer.", "autoencoder.", "vae.", "generator.", "online_model.")
EMA_PREFIXES = ("ema_model.", "model_ema.", "ema.", "shadow.")
"""Attributes under which Lightning modules and classes of moving averages keep a model; averages go first within an entry of averages."""

INNER_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile, FSDP and activation checkpointing insert into names, at any depth."""

TRAINING_ONLY = ("loss", "losses", "criterion", "discriminator", "disc", "lpips", "perceptual_loss", "step", "initted", "decay", "num_updates")
"""First components of names beside a prefixed model that belong to its training and are not read."""

_COPIES = ("model", "net", "network", "online_model")
_COUNTERS = frozenset({"decay", "num_updates", "optimization_step", "step", "initted"})
_DEEPEST = 4


@dataclass(frozen=True)
class Weights:
    """A state dict, and what was around it.

    Attributes:
        tensors: under the names that remain.
        wrappers: what was taken off, outermost first, in words: "entry 'state_dict'", "prefix 'module.'".
    """

    tensors: Mapping[str, Tensor]
    wrappers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " > ".join(self.wrappers)


def unwrap(values: Any, *, key: str | None = None, source: str) -> Weights:
    """The state dict within what a file held.

    Args:
        values: a state dict, or nested mappings that hold one.
        key: the entry that is meant, "ema" or "ema.shadow"; None for the first of `CONTAINERS`, or `values` itself.
        source: where it came from, for messages.

    Raises:
        CheckpointError: if there is no state dict, naming the entries that there are.
    """
    wrappers: list[str] = []
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{source} holds {type(values).__name__}; expected a state dict")
    if key is not None:
        values = _entry(values, key, source)
        wrappers.append(f"entry {key!r}")
    for _ in range(_DEEPEST):
        if all(isinstance(value, Tensor) for value in values.values()):
            break
        inner = next((name for name in CONTAINERS if isinstance(values.get(name), Mapping) and values[name]), None)
        if inner is None:
            break
        values = values[inner]
        wrappers.append(f"entry {inner!r}")
    other = [str(name) for name, value in values.items() if not isinstance(value, Tensor) and name not in _COUNTERS]
    if other:
        path = f" under {' > '.join(wrappers)}" if wrappers else ""
        raise CheckpointError(f"{source} holds no state dict{path}: {', '.join(other[:20])} {'are' if len(other) > 1 else 'is'} no tensor")
    return without_common_prefixes(Weights({name: value for name, value in values.items() if isinstance(value, Tensor)}, tuple(wrappers)))


def without_common_prefixes(weights: Weights) -> Weights:
    """Without what DDP, torch.compile, FSDP and activation checkpointing put into every name.

    Raises:
        CheckpointError: if two names become one.
    """
    tensors, wrappers = weights.tensors, list(weights.wrappers)
    for inner in INNER_WRAPPERS:
        if any(_has_component(name, inner) for name in tensors):
            tensors = _renamed({name: _without_component(name, inner) for name in tensors}, tensors)
            wrappers.append(f"prefix {inner!r}")
    while tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
        wrappers.append("prefix 'module.'")
    return Weights(tensors, tuple(wrappers))


def within_prefix(weights: Weights, keys: KeyMap) -> Weights:
    """The tensors under the first prefix that leaves only names which the key map knows; the weights as they are if none does, or if none is needed.

    What lies beside the prefix must be `TRAINING_ONLY`, or another copy of the same model: averages beside raw weights, or the other way round.
    """
    averages = any(f"entry {name!r}" in weights.wrappers for name in EMA_CONTAINERS)
    prefixes = (*EMA_PREFIXES, *RAW_PREFIXES) if averages else (*RAW_PREFIXES, *EMA_PREFIXES)
    candidates = [prefix for prefix in prefixes if any(name.startswith(prefix) for name in weights.tensors)]
    if not candidates or all(keys.covers(name) for name in weights.tensors):
        return weights
    for prefix in candidates:
        inside = _under(prefix, weights.tensors)
        beside = {name.partition(".")[0] for name in weights.tensors if not name.startswith(prefix)}
        if beside <= {*TRAINING_ONLY, *EMA_CONTAINERS, *_COPIES} and all(keys.covers(name) for name in inside):
            return Weights(inside, (*weights.wrappers, f"prefix {prefix!r}"))
    return weights


def common_prefix(weights: Weights) -> str:
    """The first component that every name begins with, "" if they differ."""
    first = {name.partition(".")[0] for name in weights.tensors if "." in name} | {"" for name in weights.tensors if "." not in name}
    return f"{first.pop()}." if len(first) == 1 and first != {""} else ""


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _entry(values: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    """`values[key]`, where the key may be a path with dots, and its end a prefix of names."""
    if key in values:
        found: Any = values[key]
    else:
        first, _, rest = key.partition(".")
        inside = _under(f"{key}.", values)
        found = _entry(values[first], rest, source) if rest and isinstance(values.get(first), Mapping) else inside or None
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{source} has no state dict under {key!r}; its entries are {', '.join(list(map(str, values))[:20])}")
    return found


def _has_component(name: str, component: str) -> bool:
    return name.startswith(component) or f".{component}" in name


def _without_component(name: str, component: str) -> str:
    while name.startswith(component):
        name = name.removeprefix(component)
    return name.replace(f".{component}", ".")


def _renamed(names: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for old, new in names.items():
        if new in renamed:
            raise CheckpointError(f"two tensors of the checkpoint are called {new!r} without their wrappers; the second is {old!r}")
        renamed[new] = tensors[old]
    return renamed
