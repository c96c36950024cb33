"""A tree of drafted tokens of a fixed shape, and its arrangement for one pass of the generator (EAGLE, arXiv 2401.15077)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import torch
from torch import Tensor

from visiontok.base.errors import ConfigError


class DraftTree:
    """Nodes are numbered by depth, then by the ranks of their ancestors and their own among siblings; 0 is the root.

    Args:
        choices: one path of ranks per node but the root, such as (0,), (1,), (0, 0).
        drafted: tokens that the drafter draws per expansion n; ranks are below it.

    Raises:
        ConfigError: if a path's parent is missing, or a rank is out of range.
    """

    def __init__(self, choices: Iterable[Iterable[int]], *, drafted: int = 10) -> None:
        self.drafted = drafted
        self.paths: list[tuple[int, ...]] = [(), *sorted({tuple(path) for path in choices} - {()}, key=lambda path: (len(path), path))]
        self._numbers = {path: number for number, path in enumerate(self.paths)}
        for path in self.paths[1:]:
            if path[:-1] not in self._numbers or not 0 <= path[-1] < drafted:
                raise ConfigError(f"the draft tree has a node {path} whose parent is missing or whose rank is not below {drafted}")
        inner = {path[:-1] for path in self.paths[1:]}
        self._expansions = [path for path in self.paths if path in inner]

    @cached_property
    def position_ids(self) -> Tensor:
        """(N,) int64, the depth of every node."""
        return torch.tensor([len(path) for path in self.paths])

    @cached_property
    def attention_mask(self) -> Tensor:
        """(N, N) bool: every node sees its ancestors and itself."""
        return torch.tensor([[path[: len(other)] == other for other in self.paths] for path in self.paths])

    @cached_property
    def tree_indices(self) -> Tensor:
        """(N,) int64: of every node, its token within the root and all drafted tokens (E, n) behind it."""
        numbers = {path: number for number, path in enumerate(self._expansions)}
        return torch.tensor([0] + [path[-1] + self.drafted * numbers[path[:-1]] + 1 for path in self.paths[1:]])

    @cached_property
    def retrieve_indices(self) -> Tensor:
        """(P, d + 1) int64: the nodes from the root to every leaf, then -1."""
        leaves = [path for path in self.paths if path not in self._expansions]
        longest = max(len(path) for path in leaves)
        rows = [[self._numbers[path[:depth]] for depth in range(len(path) + 1)] + [-1] * (longest - len(path)) for path in leaves]
        return torch.tensor(sorted(rows, key=lambda row: [len(self.paths) if node < 0 else node for node in row]))

    def tokens(self, root: Tensor, drafted: Tensor) -> Tensor:
        """What belongs to every node (N,), of the root (1,) and of all that was drafted (E, n)."""
        return torch.cat([root, drafted.flatten()])[self.tree_indices.to(drafted.device)]

    def gather(self, root: Tensor, drafted: Tensor, *, padding: float) -> Tensor:
        """Likewise along every path, (P, d + 1)."""
        nodes = self.retrieve_indices.to(drafted.device)
        return self.tokens(root, drafted)[nodes.clamp_min(0)].masked_fill(nodes < 0, padding)

    def row_of_parent(self, node: int) -> int:
        """The number of a node's parent among the expansions of its level."""
        parent = self.paths[node][:-1]
        return [path for path in self._expansions if len(path) == len(parent)].index(parent)

    def earlier_siblings(self, node: int) -> list[int]:
        """The nodes with the same parent and a lower rank."""
        own = self.paths[node]
        return [number for number, path in enumerate(self.paths) if path and path[:-1] == own[:-1] and path[-1] < own[-1]]
