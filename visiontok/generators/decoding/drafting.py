"""Drafting trees of tokens: of a fixed shape with sampled tokens (EAGLE), or of the most likely ones (EAGLE-2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.base.noise import Noise
from visiontok.generators.decoding.draft_tree import DraftTree, root_to_leaf
from visiontok.generators.decoding.lantern import Relaxation, TreeAcceptance, accept_dynamic_tree, accept_static_tree
from visiontok.generators.decoding.tree_logits import TreeLogits

if TYPE_CHECKING:
    from visiontok.generators.condition import ConditionLike
    from visiontok.generators.gpt.model import GPT
    from visiontok.tokens import TokenLayout


class DraftSession(Protocol):
    """What drafts beside a generator: a `TreeSession` that reads the condition by `begin`.

    Attributes:
        model: whose head reads its hidden states.
    """

    @property
    def model(self) -> GPT: ...

    def begin(self, hidden: Tensor | None = None) -> Tensor | None:
        """Read the condition, and perhaps what the generator made of it, (B', P, D)."""

    def advance(self, tokens: Tensor, counts: Tensor, hidden: Tensor | None = None) -> Tensor:
        """See `TreeSession.advance`."""

    def read(self, tokens: Tensor, steps: Tensor, sees: Tensor, hidden: Tensor | None = None) -> Tensor:
        """See `TreeSession.read`."""


class Drafter(Protocol):
    """A `gpt` of the same layout, or an `eagle` that was trained for the generator."""

    def draft_session(self, model: GPT, condition: ConditionLike, *, samples: int, layout: TokenLayout, guided: bool, room: int) -> DraftSession:
        """Its session beside that of `model`.

        Args:
            model: the generator.
            condition: of every sample.
            samples: B.
            layout: of the samples.
            guided: whether every sample is read a second time without its condition.
            room: tokens of the largest tree.

        Raises:
            ConfigError, IdentityError, ConditionError, TokenError: if drafter and generator do not fit.
        """


@dataclass(frozen=True)
class Draft(ABC):
    """The drafted trees of a batch, N nodes each; node 0 is the root, the last token that is certain.

    Attributes:
        tokens: (B, N) codes.
        depths: (B, N) int64.
        sees: (B, N, N) bool: every node sees its ancestors and itself.
    """

    tokens: Tensor
    depths: Tensor
    sees: Tensor

    @abstractmethod
    def accept(self, sample: int, logits: Tensor, noise: Noise, relaxation: Relaxation | None) -> tuple[Tensor, Tensor]:
        """What is kept of the tree of one sample.

        Args:
            sample: row of the batch.
            logits: (N, V) filtered ones of the generator behind every node.
            noise: source of one uniform draw (1,) per token that is looked at.
            relaxation: None for the exact rule.

        Returns:
            (k,) int64 nodes from the root on, and (V,) probabilities of the token behind them.
        """


class TreeDrafting(Protocol):
    """How trees are drafted.

    Attributes:
        size: nodes N of a tree, the root included.
        inner: nodes that the drafter reads besides the root.
    """

    @property
    def size(self) -> int: ...

    @property
    def inner(self) -> int: ...

    def draft(self, session: DraftSession, hidden: Tensor, root: Tensor, at: Tensor, logits: TreeLogits, noises: list[Noise]) -> Draft:
        """Draft behind the roots of a batch.

        Args:
            session: of the drafter, which has read everything up to the roots.
            hidden: (B', D) that it gave behind them.
            root: (B,) codes.
            at: (B,) int64 steps of the roots.
            logits: of the drafter.
            noises: source of the draws of every sample.
        """


class StaticTree:
    """A tree of one shape, whose tokens are drawn from the drafter's filtered distributions, siblings without replacement (EAGLE, LANTERN++).

    Draws: exponential (1, E, V) for the E expansions of every level.

    Args:
        tree: the shape; siblings have the ranks 0, 1, 2 ..., without which the result would not be exact.

    Raises:
        ConfigError: if a rank is skipped.
    """

    def __init__(self, tree: DraftTree) -> None:
        for node, path in enumerate(tree.paths):
            if path and len(tree.earlier_siblings(node)) != path[-1]:
                raise ConfigError(f"the draft tree has the node {path}, but not all siblings of lower rank")
        self.tree = tree

    @property
    def size(self) -> int:
        return len(self.tree.paths)

    @property
    def inner(self) -> int:
        return sum(len(self.tree.expansions(depth)) for depth in range(1, self.tree.depth))

    def draft(self, session: DraftSession, hidden: Tensor, root: Tensor, at: Tensor, logits: TreeLogits, noises: list[Noise]) -> Draft:
        tree, samples, device = self.tree, len(root), root.device
        if tree.drafted > logits.vocab_size:
            raise ConfigError(f"the draft tree draws {tree.drafted} different tokens per expansion, of a vocabulary of {logits.vocab_size}")
        sees = tree.attention_mask.to(device)
        tokens: list[Tensor] = []
        chances: list[Tensor] = []
        levels: list[Tensor] = []
        read: list[int] = []
        hidden, parents = hidden[:, None], [0]
        for depth in range(tree.depth):
            nodes = tree.expansions(depth)
            if depth:
                # The drafter reads the nodes of this level that have children, behind the hidden states of their parents.
                new = _node_tokens(tree, root, tokens)[:, nodes]
                hidden = hidden[:, [parents.index(tree.parent(node)) for node in nodes]]
                visible = sees[nodes][:, [*read, *nodes]].expand(samples, -1, -1)
                hidden = session.read(new, (at[:, None] + depth).expand(-1, len(nodes)), visible, hidden)
                parents, read = nodes, [*read, *nodes]
            steps = (at[:, None] + depth + 1).clamp_max(len(logits.sizes) - 1).expand(-1, len(nodes))
            odds = logits.filtered(logits.guided(hidden, steps), steps).float().softmax(dim=-1)
            clocks = torch.cat([noise.exponential(1, *odds.shape[1:]) for noise in noises]).to(device)
            drawn = (odds / clocks).topk(tree.drafted, dim=-1).indices
            chance = odds.gather(-1, drawn)
            # Given that the siblings before were drawn; of a code that had no chance any more, -1.
            chance = (chance / (1 - chance.cumsum(dim=-1) + chance)).clamp(0, 1).nan_to_num(-1)
            tokens.append(torch.minimum(drawn, logits.sizes[steps][..., None] - 1))
            chances.append(chance)
            levels.append(odds)
        depths = tree.position_ids.to(device).expand(samples, -1)
        nodes_tokens = _node_tokens(tree, root, tokens)
        return _StaticDraft(
            nodes_tokens, depths, sees.expand(samples, -1, -1), tree, torch.cat(tokens, dim=1), torch.cat(chances, dim=1), tuple(levels)
        )


def _node_tokens(tree: DraftTree, root: Tensor, drawn: list[Tensor]) -> Tensor:
    """Roots (B,) and what was drawn so far (B, E, n) each -> (B, N) codes of the nodes; 0 of those that were not drawn yet."""
    found = torch.cat([root[:, None], *(level.flatten(1) for level in drawn)], dim=1)
    indices = tree.tree_indices.to(root.device)
    return torch.where(indices < found.shape[1], found[:, indices.clamp_max(found.shape[1] - 1)], 0)


@dataclass(frozen=True)
class _StaticDraft(Draft):
    tree: DraftTree
    drawn: Tensor
    chances: Tensor
    levels: tuple[Tensor, ...]

    def accept(self, sample: int, logits: Tensor, noise: Noise, relaxation: Relaxation | None) -> tuple[Tensor, Tensor]:
        paths, root = self.tree.retrieve_indices.to(logits.device), self.tokens[sample, :1]
        levels = [odds[sample] for odds in self.levels]
        accepted = accept_static_tree(
            logits[paths.clamp_min(0)], self.tree, root, self.drawn[sample], self.chances[sample], levels, noise, relaxation=relaxation
        )
        return _kept(paths, accepted)


@dataclass(frozen=True)
class DynamicTree:
    """The tokens that the drafter holds most likely, in a tree that reaches deeper where it is sure (EAGLE-2, arXiv 2406.16858); no draws.

    Attributes:
        children: tokens per expansion, and nodes that are expanded per level; a smaller vocabulary has fewer.
        expansions: levels behind the first.
        nodes: of the tree besides the root, with the largest products of probabilities.
    """

    children: int = 10
    expansions: int = 4
    nodes: int = 58

    def __post_init__(self) -> None:
        if self.children < 1 or self.expansions < 0 or self.nodes < 1:
            raise ConfigError(f"a dynamic tree has children >= 1, expansions >= 0 and nodes >= 1, got {self}")

    @property
    def size(self) -> int:
        return 1 + self.nodes

    @property
    def inner(self) -> int:
        return self.children * self.expansions

    def draft(self, session: DraftSession, hidden: Tensor, root: Tensor, at: Tensor, logits: TreeLogits, noises: list[Noise]) -> Draft:
        samples, device = len(root), root.device
        count = min(self.children, logits.vocab_size)
        each = torch.arange(samples, device=device)[:, None]

        def best(hidden: Tensor, depth: int) -> tuple[Tensor, Tensor]:
            """The best tokens (B, n, count) behind hidden states (B', n, D), and their log-probabilities."""
            steps = (at[:, None] + depth).clamp_max(len(logits.sizes) - 1).expand(-1, hidden.shape[1])
            guided = logits.guided(hidden, steps)
            logits.check(guided, steps)
            values, tokens = guided.float().log_softmax(dim=-1).topk(count, dim=-1)
            return torch.minimum(tokens, logits.sizes[steps][..., None] - 1), values

        new, scores = (values[:, 0] for values in best(hidden[:, None], 1))
        # Candidates of every level: tokens, log-probabilities of their paths, parents among all candidates (-1 for the root), depths.
        tokens, paths, parents, depths = [new], [scores], [torch.full_like(new, -1)], [torch.ones_like(new)]
        frontier = torch.arange(count, device=device).expand(samples, -1)
        hidden = hidden[:, None].expand(-1, count, -1)
        seen, eye, first = torch.zeros(samples, count, 0, dtype=torch.bool, device=device), torch.eye(count, dtype=torch.bool, device=device), 0
        for depth in range(1, self.expansions + 1):
            first += new.shape[1] if depth == 1 else count * count
            visible = torch.cat([seen, eye.expand(samples, -1, -1)], dim=-1)
            hidden = session.read(new, (at[:, None] + depth).expand(-1, count), visible, hidden)
            following, values = best(hidden, depth + 1)
            values = values + scores[..., None]
            tokens.append(following.flatten(1))
            paths.append(values.flatten(1))
            parents.append(frontier.repeat_interleave(count, dim=1))
            depths.append(torch.full_like(tokens[-1], depth + 1))
            scores, chosen = values.flatten(1).topk(count, dim=-1)
            new, frontier, above = tokens[-1].gather(1, chosen), first + chosen, chosen // count
            seen = visible[each, above]
            hidden = hidden.unflatten(0, (-1, samples))[:, each, above].flatten(0, 1)
        size = min(self.nodes, sum(level.shape[1] for level in paths))
        # Stable, so that of equal ones the parent comes before the child.
        order = torch.cat(paths, dim=1).sort(dim=-1, descending=True, stable=True).indices[:, :size].sort(dim=-1).values
        above = torch.cat(parents, dim=1).gather(1, order)
        found = torch.where(above < 0, -1, torch.searchsorted(order, above.clamp_min(0))) + 1
        parents_of = torch.cat([torch.full_like(root[:, None], -1), found], dim=1)
        depths_of = torch.cat([torch.zeros_like(root[:, None]), torch.cat(depths, dim=1).gather(1, order)], dim=1)
        nodes = torch.cat([root[:, None], torch.cat(tokens, dim=1).gather(1, order)], dim=1)
        return _DynamicDraft(nodes, depths_of, _ancestors(parents_of, depth=self.expansions + 1), parents_of)


def _ancestors(parents: Tensor, *, depth: int) -> Tensor:
    """(B, N, N) bool: which nodes are ancestors of a node or itself, from the parents (B, N), -1 of the root."""
    own = torch.eye(parents.shape[1], dtype=torch.bool, device=parents.device).expand(len(parents), -1, -1)
    found = own
    for _ in range(depth):
        found = own | (found.gather(1, parents.clamp_min(0)[..., None].expand_as(found)) & (parents >= 0)[..., None])
    return found


@dataclass(frozen=True)
class _DynamicDraft(Draft):
    parents: Tensor

    def accept(self, sample: int, logits: Tensor, noise: Noise, relaxation: Relaxation | None) -> tuple[Tensor, Tensor]:
        paths = root_to_leaf(self.parents[sample].tolist()).to(logits.device)
        nodes = paths.clamp_min(0)
        candidates = self.tokens[sample, nodes].masked_fill(paths < 0, -1)
        return _kept(paths, accept_dynamic_tree(logits[nodes], candidates, noise, relaxation=relaxation))


def _kept(paths: Tensor, accepted: TreeAcceptance) -> tuple[Tensor, Tensor]:
    return paths[accepted.path, : accepted.length + 1], accepted.bonus
