"""Streaming accumulators: updated batch by batch and merged across shards; their state is plain arrays."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch.distributed as dist
from typing_extensions import Self

State: TypeAlias = dict[str, np.ndarray]


class Accumulator(ABC):
    """The interface of every streaming metric, beside its own `update`.

    However the samples are divided over accumulators, after merging the counts are equal and the sums agree up to rounding.
    """

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Add what another accumulator of the same kind has seen."""

    @abstractmethod
    def state(self) -> State:
        """Everything seen so far, as arrays that can be stored without pickle."""

    @abstractmethod
    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Replace what was seen by a `state()`."""

    @abstractmethod
    def compute(self) -> Any:
        """The metric over everything seen so far."""


def states_of(parts: Mapping[str, Accumulator]) -> State:
    """The states of several accumulators in one, each array by the name of its part, a slash and its own name."""
    return {f"{name}/{key}": array for name, part in parts.items() for key, array in part.state().items()}


def load_states(parts: Mapping[str, Accumulator], states: Mapping[str, np.ndarray]) -> None:
    """Replace what several accumulators have seen by `states_of` them."""
    for name, part in parts.items():
        prefix = f"{name}/"
        part.load_state({key.removeprefix(prefix): array for key, array in states.items() if key.startswith(prefix)})


AccumulatorT = TypeVar("AccumulatorT", bound=Accumulator)


def merge_across_processes(accumulator: AccumulatorT) -> None:
    """Merge what all ranks of the default process group saw into the accumulator of each of them, in the order of the ranks.

    Without a process group there is nothing to merge. Works with any backend that gathers objects (gloo, nccl).
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, accumulator.state())
    other = copy.deepcopy(accumulator)
    accumulator.load_state(states[0])
    for state in states[1:]:
        other.load_state(state)
        accumulator.merge(other)
