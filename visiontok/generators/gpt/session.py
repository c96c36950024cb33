"""Reading tokens step by step, with the keys and values of what was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from visiontok.generators.condition import Condition
from visiontok.tokens import TokenLayout

if TYPE_CHECKING:
    from visiontok.generators.gpt.model import GPT


class GPTSession:
    """A batch of samples of one layout that a `GPT` reads in generation order.

    `prefill`, then `step` after `step`; `rewind` forgets the last steps. Every call gives what the head reads for the next step: (B, D) with the
    condition, and in a guided session (B, D) without it.

    Attributes:
        samples: B.
        layout: of the samples.
        length: steps read so far.
    """

    def __init__(self, model: GPT, condition: Condition, samples: int, layout: TokenLayout, *, guided: bool) -> None:
        self.model, self.samples, self.layout, self.guided = model, samples, layout, guided
        self.length = 0
        none = torch.full((samples,), condition.kind == "none", dtype=torch.bool, device=model.device)
        prefix, mask = model.condition(condition, none)
        if guided:
            without, mask_without = model.condition(condition, torch.ones_like(none))
            prefix = torch.cat([prefix, without])
            if mask is not None and mask_without is not None:
                mask = torch.cat([mask, mask_without])
        self._prefix, self._mask = prefix, mask
        self._modulations = model.backbone.modulations(prefix[:, 0]) if model.config.is_modulated else ()
        self._plan = model.plan(layout).to(model.device)
        self._rope = model.rope_rows(self._plan.coordinates[None])
        self._caches = model.backbone.new_caches(len(prefix), model.condition.length + len(self._plan.held))

    @torch.no_grad()
    def prefill(self, data: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Read the condition and the first steps.

        Args:
            data: (B, n, K) tokens or (B, n, C) latents in generation order; None for none.
        """
        self.length = 0
        for cache in self._caches:
            cache.rewind(0)
        x = self._prefix if data is None else torch.cat([self._prefix, self._embed(data)], dim=1)
        return self._last(self._read(x, 0 if data is None else data.shape[1]))

    @torch.no_grad()
    def step(self, data: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read the tokens (B, K) or the latent (B, C) of the next step."""
        return self._last(self._read(self._embed(data[:, None]), 1))

    @torch.no_grad()
    def extend(self, data: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read several steps at once, (B, n, K) or (B, n, C): what the head reads after each of them, (B, n, D)."""
        hidden = self._read(self._embed(data), data.shape[1])
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
            cache.rewind(self.model.condition.length + length)

    def _embed(self, data: Tensor) -> Tensor:
        rows = slice(self.length, self.length + data.shape[1])
        x = self.model.embed(data, self._plan.first[rows], self._plan.held[rows]).to(self._prefix.dtype)
        return torch.cat([x, x]) if self.guided else x

    def _read(self, x: Tensor, steps: int) -> Tensor:
        self.length += steps
        return self.model.transform(x, rope=self._rope, prefix_mask=self._mask, caches=self._caches, modulations=self._modulations)

    def _last(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        last = hidden[:, -1]
        return (last[: self.samples], last[self.samples :]) if self.guided else (last, None)
