"""`gpt`'s session: samples of any layout that the generator accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from visiontok.generators.condition import Condition
from visiontok.generators.session import NextStepSession, condition_streams
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
        embedded = [model.condition(condition, dropped) for dropped in condition_streams(condition, samples, guided=guided, device=model.device)]
        prefix, masks = torch.cat([elements for elements, _ in embedded]), [mask for _, mask in embedded if mask is not None]
        self._mask = torch.cat(masks) if masks else None
        self._modulations = model.backbone.modulations(prefix[:, 0]) if model.config.is_modulated else ()
        self._plan = model.plan(layout).to(model.device)
        self._rope = model.rope_rows(self._plan.coordinates[None])
        caches = model.backbone.new_caches(len(prefix), model.condition.length + len(self._plan.held))
        super().__init__(prefix, caches, samples, guided=guided)

    def _embed(self, data: Tensor) -> Tensor:
        rows = slice(self.length, self.length + data.shape[1])
        return self.model.embed(data, self._plan.first[rows], self._plan.held[rows]).to(self._prefix.dtype)

    def _transform(self, x: Tensor) -> Tensor:
        return self.model.transform(x, rope=self._rope, prefix_mask=self._mask, caches=self._caches, modulations=self._modulations)
