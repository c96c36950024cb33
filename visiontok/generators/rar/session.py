"""RAR's session: whole samples in the layout's generation order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from visiontok.generators.condition import Condition
from visiontok.generators.session import NextStepSession, condition_streams

if TYPE_CHECKING:
    from visiontok.generators.rar.model import Rar


class RarSession(NextStepSession):
    """A batch of samples that a `Rar` reads in the layout's generation order; see `NextStepSession`."""

    def __init__(self, model: Rar, condition: Condition, samples: int, *, guided: bool) -> None:
        self.model = model
        streams = condition_streams(condition, samples, guided=guided, device=model.device)
        prefix = torch.cat([model.prefix(condition, dropped) for dropped in streams])
        self._conditions = model.element_conditions(prefix)
        self._positions = model.element_positions(model.own_order[None])
        caches = model.backbone.new_caches(len(prefix), model.layout.length + prefix.shape[1])
        super().__init__(prefix, caches, samples, guided=guided)

    def _embed(self, data: Tensor) -> Tensor:
        return self.model.embedding(data[..., 0])

    def _transform(self, x: Tensor) -> Tensor:
        return self.model.transform(x, self._positions, self._conditions, self._caches)
