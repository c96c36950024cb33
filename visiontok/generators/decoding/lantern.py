"""LANTERN's relaxed acceptance of drafted tokens (arXiv 2410.03355): a code may borrow the probability of codes whose latents are near.

Relaxed decoding does not keep the generator's distribution; that is its purpose. Functions for token trees take one sample, as drafted trees differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.base.noise import Noise
from visiontok.generators.decoding.categorical import probabilities
from visiontok.generators.decoding.draft_tree import DraftTree
from visiontok.generators.decoding.filters import Filter


def nearest_latents(codebook: Tensor, k: int, *, chunk: int = 1024) -> Tensor:
    """The codes nearest to every code by the Euclidean distance of their rows, nearest first and without itself: (V, min(k, V - 1)) int64.

    Args:
        codebook: (V, C) rows; the released results use raw rows, also of tokenizers that search by normalized ones.
        k: neighbors per code; for a `Relaxation` one more than it adds up.
        chunk: rows whose distances are held at once.
    """
    rows, k = codebook.float(), min(k, len(codebook) - 1)
    found = []
    for begin in range(0, len(rows), chunk):
        distances = torch.cdist(rows[begin : begin + chunk], rows, compute_mode="donot_use_mm_for_euclid_dist")
        own = torch.arange(len(distances), device=rows.device)
        distances[own, begin + own] = torch.inf
        found.append(distances.sort(dim=-1, stable=True).indices[:, :k])
    return torch.cat(found)


@dataclass(frozen=True)
class Relaxation:
    """How much probability a code may borrow from its neighbors.

    Attributes:
        neighbors: (V, n) int64, nearest first; see `nearest_latents`. The rule needs n = k + 1, or all.
        k: neighbors that may lend.
        delta: the bound of what is lent: at most 1, an absolute one, which bounds the distance in total variation (LANTERN); above 1, `delta - 1`
            times the code's own probability (LANTERN++).
    """

    neighbors: Tensor
    k: int
    delta: float

    def __post_init__(self) -> None:
        size, stored = self.neighbors.shape
        if not 1 <= self.k < size:
            raise ConfigError(f"a code of a codebook of {size} has at most {size - 1} neighbors, got k = {self.k}")
        if stored < min(self.k + 1, size - 1):
            raise ConfigError(f"k = {self.k} needs {min(self.k + 1, size - 1)} stored neighbors per code, of which there are {stored}")
        if not self.delta >= 0:
            raise ConfigError(f"delta is not negative, got {self.delta}")

    def borrowed(self, target: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """What codes (B,) borrow under probabilities (B, V): the largest cumulative mass of their nearest neighbors within the bound, (B,); and (B,)
        bool, whether there is any such neighbor."""
        mass = target.gather(-1, self.neighbors.to(codes.device)[codes, : self.k]).cumsum(dim=-1)
        own = target.gather(-1, codes[:, None])
        count = (mass <= (self.delta if self.delta <= 1 else (self.delta - 1) * own)).sum(dim=-1)
        return torch.where(count > 0, mass.gather(-1, (count - 1).clamp_min(0)[:, None])[:, 0], 0), count > 0

    def without_neighbors(self, weights: Tensor, codes: Tensor, where: Tensor) -> Tensor:
        """Weights (B, V) with zeros at the k + 1 nearest neighbors of codes (B,), in the rows `where` (B,)."""
        near = self.neighbors.to(codes.device)[codes, : self.k + 1]
        return torch.where(where[:, None], weights.scatter(-1, near, 0), weights)


@dataclass(frozen=True)
class LanternAcceptance:
    """The relaxed rule as an acceptance rule of `SpeculativeSampler`, whose draft is a tree with one path.

    Attributes:
        relaxations: one for all codebook levels, or one for each.
    """

    relaxations: tuple[Relaxation, ...]

    def __call__(self, target: Tensor, draft: Tensor, codes: Tensor, uniform: Tensor, *, codebook: int) -> tuple[Tensor, Tensor]:
        relaxation = self.relaxations[codebook if len(self.relaxations) > 1 else 0]
        p, q = (values.gather(-1, codes[:, None])[:, 0] for values in (target, draft))
        borrowed, is_relaxed = relaxation.borrowed(target, codes)
        left = (target - relaxation.without_neighbors(draft, codes, is_relaxed)).clamp_min(0)
        left = torch.where(left.sum(dim=-1, keepdim=True) > 0, left, 1)
        return uniform * q <= p + borrowed, left


@dataclass(frozen=True)
class TreeAcceptance:
    """What is accepted of a drafted tree.

    Attributes:
        path: the path that the accepted tokens are of.
        length: number of accepted tokens, without the root.
        bonus: (V,) distribution of the token behind them; raw logits of the greedy rule.

    The functions that give it raise a NonFiniteError, which names the depth within the tree as the step, for logits with NaN or plus infinity.
    """

    path: int
    length: int
    bonus: Tensor


def accept_greedily(logits: Tensor, candidates: Tensor, *, relaxation: Relaxation | None = None) -> TreeAcceptance:
    """The longest run of tokens that are the most likely ones, with what they borrow.

    Args:
        logits: (P, d + 1, V) of the generator along P paths.
        candidates: (P, d + 1) int64: the root, drafted tokens, and -1 as padding.
        relaxation: None for the exact rule.
    """
    tokens = candidates[:, 1:].flatten()
    drafted, scores, odds = tokens.clamp_min(0), logits[:, :-1].flatten(0, 1), probabilities(logits)
    if relaxation is not None:
        scores = odds[:, :-1].flatten(0, 1)
        borrowed, _ = relaxation.borrowed(scores, drafted)
        scores = scores.scatter_add(-1, drafted[:, None], borrowed[:, None])
    right = ((scores.argmax(dim=-1) == drafted) & (tokens >= 0)).view(len(candidates), -1)
    lengths = right.long().cumprod(dim=-1).sum(dim=-1)
    path = int(lengths.argmax())
    length = int(lengths[path])
    return TreeAcceptance(path, length, logits[path, length])


def accept_dynamic_tree(
    logits: Tensor, candidates: Tensor, noise: Noise, *, filters: Sequence[Filter] = (), relaxation: Relaxation | None = None
) -> TreeAcceptance:
    """Random acceptance of a tree of the drafter's most likely tokens, each of which counts as drafted with probability 1 (EAGLE-2).

    Args:
        logits, candidates, relaxation: see `accept_greedily`.
        noise: source of one uniform draw (1,) per token that is looked at.
        filters: of the logits.
    """

    def reject(p: Tensor, token: Tensor, is_relaxed: Tensor, _row: int, _level: int) -> Tensor:
        p = p.scatter(-1, token[:, None], 0)
        return p if relaxation is None else relaxation.without_neighbors(p, token, is_relaxed)

    return _walk(logits, candidates, torch.ones(candidates.shape), noise, filters, relaxation, reject)


def accept_static_tree(
    logits: Tensor,
    tree: DraftTree,
    root: Tensor,
    drafted: Tensor,
    drafted_probabilities: Tensor,
    draft: Sequence[Tensor],
    noise: Noise,
    *,
    filters: Sequence[Filter] = (),
    relaxation: Relaxation | None = None,
) -> TreeAcceptance:
    """Random acceptance of a tree of tokens that the drafter drew without replacement (EAGLE, LANTERN++).

    Args:
        logits: (P, d + 1, V) of the generator along the P paths of the tree.
        tree: its shape.
        root: (1,) int64.
        drafted: (E, n) int64, tokens of every expansion.
        drafted_probabilities: (E, n), of these given that those before them are excluded.
        draft: for every level, the drafter's distributions (rows, V), one per expansion of that level.
        noise: source of one uniform draw (1,) per token that is looked at.
        filters: of the generator's logits.
        relaxation: None for the exact rule.
    """
    candidates = tree.gather(root, drafted, padding=-1)
    odds = tree.gather(drafted_probabilities.new_ones(1), drafted_probabilities, padding=1)
    tokens = tree.tokens(root, drafted)

    def reject(p: Tensor, token: Tensor, is_relaxed: Tensor, row: int, level: int) -> Tensor:
        node = int(tree.retrieve_indices[row, level])
        q = draft[level - 1][tree.row_of_parent(node)][None].to(p)
        before = tree.earlier_siblings(node)
        if before:
            q = q.index_fill(-1, tokens[before], 0)
            q = q / q.sum()
        if relaxation is not None:
            q = relaxation.without_neighbors(q, token, is_relaxed)
        return (p - q).clamp_min(0)

    return _walk(logits, candidates, odds, noise, filters, relaxation, reject)


def _walk(
    logits: Tensor,
    candidates: Tensor,
    drafted: Tensor,
    noise: Noise,
    filters: Sequence[Filter],
    relaxation: Relaxation | None,
    reject: Callable[[Tensor, Tensor, Tensor, int, int], Tensor],
) -> TreeAcceptance:
    """Level by level, the first candidate that is accepted; a rejected one changes the distribution for the others of its level."""
    path, length = 0, 0
    for level in range(1, candidates.shape[1]):
        rows = (candidates[:, :level] == candidates[path, :level]).all(dim=1).nonzero().flatten().tolist()
        p = _processed(logits[rows[0], level - 1], filters, level - 1)
        tried, is_changed = {-1}, False
        for row in rows:
            if (token := int(candidates[row, level])) in tried:
                continue
            tried.add(token)
            uniform, q, code = noise.uniform(1), drafted[row, level], candidates[row, level : level + 1]
            if q <= 0:
                continue
            own, is_relaxed = p[:, token], torch.zeros(1, dtype=torch.bool, device=p.device)
            if relaxation is not None:
                borrowed, is_relaxed = relaxation.borrowed(p, code)
                own = own + borrowed
            if bool(uniform.to(p) <= own / q.to(p)):
                path, length = row, level
                break
            p = reject(p, code, is_relaxed, row, level)
            p = p if bool(p.sum() > 0) else torch.ones_like(p)
            p, is_changed = p / p.sum(), True
        if length < level:
            if is_changed:
                return TreeAcceptance(path, length, p[0])
            break
    return TreeAcceptance(path, length, _processed(logits[path, length], filters, length)[0])


def _processed(logits: Tensor, filters: Sequence[Filter], level: int) -> Tensor:
    """(V,) -> probabilities (1, V)."""
    for filter_logits in filters:
        logits = filter_logits(logits)
    return probabilities(logits, step=level)[None]
