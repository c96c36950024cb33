"""Reading tokens step by step, with the keys and values of what was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from visiontok.generators.condition import Condition

if TYPE_CHECKING:
    from visiontok.generators.rar.model import Rar


class RarSession:
    """A batch of samples that a `Rar` reads in the layout's generation order.

    `prefill`, then `step` after `step`; `rewind` forgets the last steps. Every call gives what the head reads for the next step: (B, D) with the
    condition, and in a guided session (B, D) without it.

    Attributes:
        samples: B.
        length: steps read so far.
    """

    def __init__(self, model: Rar, condition: Condition, samples: int, *, guided: bool) -> None:
        self.model, self.samples, self.guided = model, samples, guided
        self.length = 0
        none = torch.full((samples,), condition.kind == "none", dtype=torch.bool, device=model.device)
        prefix = model.prefix(condition, none)
        self._prefix = torch.cat([prefix, model.prefix(condition, torch.ones_like(none))]) if guided else prefix
        self._conditions = model.element_conditions(self._prefix)
        self._positions = model.element_positions(model.own_order[None])
        self._caches = model.backbone.new_caches(len(self._prefix), model.layout.length + 2)

    @torch.no_grad()
    def prefill(self, tokens: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Read the condition and the first tokens.

        Args:
            tokens: (B, n, 1) in generation order; None for none.
        """
        self.length = 0
        for cache in self._caches:
            cache.rewind(0)
        if tokens is None:
            return self._last(self._read(self._prefix, 0))
        return self._last(self._read(torch.cat([self._prefix, self._embed(tokens)], dim=1), tokens.shape[1]))

    @torch.no_grad()
    def step(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read the next token (B, 1) of every sample."""
        return self._last(self._read(self._embed(tokens[:, None]), 1))

    @torch.no_grad()
    def extend(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read several tokens (B, n, 1) at once: what the head reads after each of them, (B, n, D)."""
        hidden = self._read(self._embed(tokens), tokens.shape[1])
        return (hidden[: self.samples], hidden[self.samples :]) if self.guided else (hidden, None)

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` steps; go on with `step`, which is then number `length`.

        Raises:
            ValueError: if fewer steps were read.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"{self.length} steps were read; {length} of them cannot be kept")
        self.length = length
        for cache in self._caches:
            cache.rewind(2 + length)

    def _embed(self, tokens: Tensor) -> Tensor:
        embedded = self.model.embedding(tokens[..., 0])
        return torch.cat([embedded, embedded]) if self.guided else embedded

    def _read(self, x: Tensor, steps: int) -> Tensor:
        self.length += steps
        return self.model.transform(x, self._positions, self._conditions, self._caches)

    def _last(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        last = hidden[:, -1]
        return (last[: self.samples], last[self.samples :]) if self.guided else (last, None)
