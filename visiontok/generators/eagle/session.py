"""Drafting with an `EagleDrafter`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from visiontok.generators.tree_session import TreeSession
from visiontok.tokens import TokenLayout

if TYPE_CHECKING:
    from visiontok.generators.eagle.model import EagleDrafter
    from visiontok.generators.gpt.model import GPT


class EagleSession(TreeSession):
    """Reads every token with the hidden state before it: the generator's where that has read so far, else its own prediction.

    The condition has one element less than in the generator, as the first has no hidden state before it.

    Args:
        drafter: the network.
        model: its generator, whose head reads the predictions.
        samples: B.
        layout: of the samples.
        guided: see `CachedSession`.
        room: tokens of the largest tree.
    """

    def __init__(self, drafter: EagleDrafter, model: GPT, samples: int, layout: TokenLayout, *, guided: bool, room: int) -> None:
        self.drafter, self.model = drafter, model
        self._plan = model.plan(layout).to(model.device)
        prefix, steps = model.condition.length - 1, len(self._plan.held)
        cache = drafter.new_cache(samples * (2 if guided else 1), prefix + steps + room)
        rope = drafter.rope_rows(self._plan.coordinates[None], prefix)[0, 0]
        super().__init__([cache], samples, guided=guided, prefix=prefix, steps=steps, prefix_mask=None, rope=rope, device=model.device)

    @torch.no_grad()
    def begin(self, hidden: Tensor | None = None) -> None:
        """Read what the generator made of the condition, (B', P, D)."""
        assert hidden is not None
        if self._prefix_size:
            rows = torch.zeros(hidden.shape[0], self._prefix_size, dtype=torch.int64, device=hidden.device)
            self._begin(self.drafter.elements(rows, hidden[:, :-1]))

    def _embed(self, tokens: Tensor, steps: Tensor, hidden: Tensor | None) -> Tensor:
        assert hidden is not None
        return self.drafter.elements(tokens + self._plan.first[steps, 0], hidden)

    def _transform(self, x: Tensor, *, rope: Tensor | None, mask: Tensor | None) -> Tensor:
        return self.drafter.layer(x, rope=rope, mask=mask, cache=self._caches[0]).to(self.model.dtype)
