"""`gpt`'s sessions: samples of any layout that the generator accepts."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from visiontok.generators.backbones.llama import causal_mask
from visiontok.generators.backbones.llama_step import LlamaStep, can_stream
from visiontok.generators.condition import Condition
from visiontok.generators.session import NextStepSession, embedded_streams
from visiontok.generators.tree_session import TreeSession
from visiontok.tokens import TokenLayout

if TYPE_CHECKING:
    from visiontok.generators.gpt.model import GPT


class GPTSession(NextStepSession):
    """A batch of samples of one layout that a `GPT` reads; see `NextStepSession`.

    Attributes:
        layout: of the samples.
    """

    def __init__(self, model: GPT, condition: Condition, samples: int, layout: TokenLayout, *, guided: bool) -> None:
        self.model, self.layout = model, layout
        prefix, self._mask = embedded_streams(model.condition, condition, samples, guided=guided, device=model.device)
        self._modulations = model.backbone.modulations(prefix[:, 0]) if model.config.is_modulated else ()
        self._plan = model.plan(layout).to(model.device)
        self._rope = model.rope_rows(self._plan.coordinates[None])
        caches = model.backbone.new_caches(len(prefix), model.condition.length + len(self._plan.held))
        self._is_streamed = can_stream(model.backbone)
        super().__init__(prefix, caches, samples, guided=guided)

    def _embed(self, data: Tensor) -> Tensor:
        rows = slice(self.length, self.length + data.shape[1])
        return self.model.embed(data, self._plan.first[rows], self._plan.held[rows]).to(self._prefix.dtype)

    def _transform(self, x: Tensor) -> Tensor:
        start, end = self._caches[0].length, self._caches[0].length + x.shape[1]
        x = self.model.positioned(x, start)
        mask = causal_mask(start, end, prefix_mask=self._mask, device=x.device)
        if self._is_streamed and start and x.shape[1] == 1:
            return self._single_step(x, mask=mask, caches=self._caches)
        rope = None if self._rope is None else self._rope[:, :, start:end]
        return self.model.backbone(x, rope=rope, mask=mask, caches=self._caches, modulations=self._modulations)

    @cached_property
    def _single_step(self) -> LlamaStep:
        """For all later steps."""
        return LlamaStep(self.model.backbone, rows=len(self._prefix), steps=len(self._plan.held), rope=self._rope)


class GPTTreeSession(TreeSession):
    """A batch of samples of one layout, with trees of drafted tokens behind them, that a `GPT` reads; see `TreeSession`.

    Args:
        model: that writes one token per step.
        condition: of every sample.
        samples: B.
        layout: of the samples.
        guided: see `CachedSession`.
        room: tokens of the largest tree.
    """

    def __init__(self, model: GPT, condition: Condition, samples: int, layout: TokenLayout, *, guided: bool, room: int) -> None:
        self.model = model
        self._elements, mask = embedded_streams(model.condition, condition, samples, guided=guided, device=model.device)
        self._modulations = model.backbone.modulations(self._elements[:, 0]) if model.config.is_modulated else ()
        self._plan = model.plan(layout).to(model.device)
        self._learned = model.position_rows(0, model.condition.length - 1 + model.num_steps())
        rope = model.rope_rows(self._plan.coordinates[None])
        super().__init__(
            model.backbone.new_caches(len(self._elements), model.condition.length + len(self._plan.held) + room),
            samples,
            guided=guided,
            prefix=model.condition.length,
            steps=len(self._plan.held),
            prefix_mask=mask,
            rope=None if rope is None else rope[0, 0],
            device=model.device,
        )

    @torch.no_grad()
    def begin(self, hidden: Tensor | None = None) -> Tensor:
        """Read the condition: (B', P, D) what the head reads, the last for the first step. What another model read is ignored."""
        return self._begin(self._positioned(self._elements, torch.arange(self._prefix_size, device=self._elements.device)))

    def _embed(self, tokens: Tensor, steps: Tensor, hidden: Tensor | None) -> Tensor:
        x = self.model.embed(tokens[..., None], self._plan.first[steps], self._plan.held[steps])
        return self._positioned(x.to(self._elements.dtype), self._prefix_size + steps)

    def _transform(self, x: Tensor, *, rope: Tensor | None, mask: Tensor | None) -> Tensor:
        return self.model.backbone(x, rope=rope, mask=mask, caches=self._caches, modulations=self._modulations)

    def _positioned(self, x: Tensor, elements: Tensor) -> Tensor:
        """With learned positions where there are any; the last token of a sample has none, as nothing follows it, and any will do."""
        return x if self._learned is None else x + self._learned[elements.clamp_max(len(self._learned) - 1)]
