"""Reading trees of tokens, behind samples of which each has its own number of steps."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.generators.backbones.llama import causal_mask
from visiontok.generators.session import CachedSession
from visiontok.layers.kv_cache import KVCache


class TreeSession(CachedSession, ABC):
    """A batch of samples that a causal model reads in generation order, a token per step, each at its own pace.

    Behind the steps that a sample keeps lies a tree of tokens, read in one or several passes: every token sees the steps kept and its own ancestors.
    `keep` makes the tokens of one path steps, and forgets the rest of the tree. Hidden states are (B', n, D): B' is B, or in a guided session
    2 * B, where the second half is read without the condition.

    Args:
        caches: empty ones, with room for the condition, all steps and a tree.
        samples: B.
        guided: whether every sample is read a second time without its condition.
        prefix: elements of the condition, P.
        steps: of a whole sample, T.
        prefix_mask: (B', P) bool, False where the condition is padding; None where there is none.
        rope: (P + T, head_dim / 2, 2) of the condition and of every step; None for no rotation.
        device: of the model.

    Attributes:
        lengths: (B,) int64, the steps that every sample keeps.
    """

    def __init__(
        self,
        caches: list[KVCache],
        samples: int,
        *,
        guided: bool,
        prefix: int,
        steps: int,
        prefix_mask: Tensor | None,
        rope: Tensor | None,
        device: torch.device,
    ) -> None:
        super().__init__(caches, samples, guided=guided, prefix=prefix)
        self._last_step, self._prefix_mask, self._rope = steps - 1, prefix_mask, rope
        self.lengths = torch.zeros(samples, dtype=torch.int64, device=device)

    @torch.no_grad()
    def read(self, tokens: Tensor, steps: Tensor, sees: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Read further tokens of the tree.

        Args:
            tokens: (B, n) codes.
            steps: (B, n) int64, the step of every token; what lies behind the last step counts as that.
            sees: (B, n, m + n) bool: which of the m tokens that the tree had, and of the new ones, a token sees; itself at least.
            hidden: (B', n, D) of the model whose tokens are drafted, at the element before each; only drafters that read them need it.

        Returns:
            (B', n, D) what the head reads for the steps that follow.
        """
        steps = self._doubled(steps.clamp_max(self._last_step))
        rope = None if self._rope is None else self._rope[self._prefix_size + steps][:, None]
        return self._transform(self._embed(self._doubled(tokens), steps, hidden), rope=rope, mask=self._mask(sees))

    @torch.no_grad()
    def keep(self, path: Tensor, counts: Tensor) -> None:
        """Of the tree, keep the first `counts` (B,) of the tokens at `path` (B, k) int64, as steps."""
        tree = self._prefix_size + int(self.lengths.max())
        start = self._prefix_size + int(self.lengths.min())
        lengths = self.lengths + counts
        slots = torch.arange(start, self._prefix_size + int(lengths.max()), device=path.device).expand(self.samples, -1)
        kept = slots - self._prefix_size - self.lengths[:, None]
        moved = tree + path.gather(1, kept.clamp(0, path.shape[1] - 1))
        # Behind the steps of a sample lies what the mask hides.
        slots = torch.where(kept < 0, slots, moved)
        for cache in self._caches:
            cache.gather(start, self._doubled(slots))
        self.lengths = lengths

    def advance(self, tokens: Tensor, counts: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Forget the tree, and read the first `counts` (B,) of `tokens` (B, n) as further steps; (B', D) behind the last of each sample.

        A sample whose count is 0 reads nothing, and its result has no meaning.
        """
        self._keep(self._prefix_size + int(self.lengths.max()))
        number = torch.arange(tokens.shape[1], device=tokens.device)
        sees = (number <= number[:, None]).expand(self.samples, -1, -1)
        found = self.read(tokens, self.lengths[:, None] + number, sees, hidden)
        self.keep(number.expand(self.samples, -1), counts)
        last = self._doubled((counts - 1).clamp_min(0))
        return found[torch.arange(len(found), device=found.device), last]

    def _begin(self, x: Tensor) -> Tensor:
        """Read the elements of the condition (B', P, D)."""
        rope = None if self._rope is None else self._rope[: self._prefix_size]
        mask = causal_mask(0, self._prefix_size, prefix_mask=self._prefix_mask, device=x.device)
        return self._transform(x, rope=rope, mask=mask)

    def _mask(self, sees: Tensor) -> Tensor:
        """(B', 1, n, S) bool, where new tokens may look."""
        slots = torch.arange(self._prefix_size + int(self.lengths.max()), device=sees.device)
        held = self._doubled(slots < self._prefix_size + self.lengths[:, None])
        if self._prefix_mask is not None:
            held = held & F.pad(self._prefix_mask, (0, len(slots) - self._prefix_size), value=True)
        return torch.cat([held[:, None].expand(-1, sees.shape[1], -1), self._doubled(sees)], dim=-1)[:, None]

    @abstractmethod
    def _embed(self, tokens: Tensor, steps: Tensor, hidden: Tensor | None) -> Tensor:
        """Tokens (B', n) of steps (B', n) -> elements (B', n, D)."""

    @abstractmethod
    def _transform(self, x: Tensor, *, rope: Tensor | None, mask: Tensor | None) -> Tensor:
        """Elements (B', n, D) behind those in the caches -> what the head reads, of the same shape."""
