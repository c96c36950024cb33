"""A tree of drafted tokens of a fixed shape, and its arrangement for one pass of the generator (EAGLE, arXiv 2401.15077)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

    @classmethod
    def chain(cls, length: int) -> DraftTree:
        """One sequence."""
        return cls([(0,) * depth for depth in range(1, length + 1)], drafted=1)

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
        return root_to_leaf([-1, *(self._numbers[path[:-1]] for path in self.paths[1:])])

    @property
    def depth(self) -> int:
        """Of the deepest node."""
        return len(self.paths[-1])

    def expansions(self, depth: int) -> list[int]:
        """The nodes of a depth that have children."""
        return [self._numbers[path] for path in self._expansions if len(path) == depth]

    def tokens(self, root: Tensor, drafted: Tensor) -> Tensor:
        """What belongs to every node (N,), of the root (1,) and of all that was drafted (E, n)."""
        return torch.cat([root, drafted.flatten()])[self.tree_indices.to(drafted.device)]

    def gather(self, root: Tensor, drafted: Tensor, *, padding: float) -> Tensor:
        """Likewise along every path, (P, d + 1)."""
        nodes = self.retrieve_indices.to(drafted.device)
        return self.tokens(root, drafted)[nodes.clamp_min(0)].masked_fill(nodes < 0, padding)

    def parent(self, node: int) -> int:
        """Of a node but the root."""
        return self._numbers[self.paths[node][:-1]]

    def row_of_parent(self, node: int) -> int:
        """The number of a node's parent among the expansions of its level."""
        return self.expansions(len(self.paths[node]) - 1).index(self.parent(node))

    def earlier_siblings(self, node: int) -> list[int]:
        """The nodes with the same parent and a lower rank."""
        own = self.paths[node]
        return [number for number, path in enumerate(self.paths) if path and path[:-1] == own[:-1] and path[-1] < own[-1]]


def root_to_leaf(parents: Sequence[int]) -> Tensor:
    """(P, d + 1) int64: the nodes from the root to every leaf, then -1; sorted by their numbers.

    Args:
        parents: of every node, whose own number is larger; -1 of the root.
    """
    paths = [[0]]
    for node, parent in enumerate(parents[1:], start=1):
        paths.append([*paths[parent], node])
    inner = set(parents)
    rows = [paths[node] for node in range(len(parents)) if node not in inner]
    longest = max(len(row) for row in rows)
    padded = sorted([*row, *[len(parents)] * (longest - len(row))] for row in rows)
    found = torch.tensor(padded)
    return found.masked_fill(found == len(parents), -1)


def _paths(text: str) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(rank) for rank in path) for path in text.split())


EAGLE_TREE = _paths("0 1 2 3 00 01 02 10 11 20 21 30 000 001 002 010 011 020 021 100 0000 0001 0002 00000 00001")
"""The 25 nodes of EAGLE's static tree (`mc_sim_7b_63`)."""

LANTERN_TREE = _paths(
    "0 1 2 3 4 00 01 02 03 10 11 12 20 21 22 30 31 40 "
    "000 001 002 003 010 011 012 020 021 022 030 031 100 101 110 200 "
    "0000 0001 0002 0003 0010 0011 0012 0020 0021 0030 0100 0101 0110 0200 "
    "00000 00001 00002 00010 00011 00100 00101 00110 00200"
)
"""The 57 nodes of LANTERN++'s static tree (`naive_extend_57`, arXiv 2502.06352)."""
