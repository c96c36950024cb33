"""xAR's session: samples cell by cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from visiontok.generators.condition import Condition
from visiontok.generators.session import CachedSession, condition_streams

if TYPE_CHECKING:
    from visiontok.generators.xar.model import Xar


class XarSession(CachedSession):
    """A batch of samples that an `Xar` reads cell by cell; a step is a cell.

    `prefill`, then `step` after `step`; `rewind` forgets the last cells; `velocity` is that of the next cell and adds nothing to what was read.

    Attributes:
        cell_shape: (S, C) latents of a cell.
        num_cells: of a whole sample.
    """

    def __init__(self, model: Xar, condition: Condition, samples: int, *, guided: bool) -> None:
        self.model, self.cell_shape, self.num_cells = model, (model.cell_size, model.output.out_features), model.num_cells
        streams = condition_streams(condition, samples, guided=guided, device=model.device)
        self._vectors = torch.cat([model.class_vectors(condition, dropped) for dropped in streams])
        caches = [cache for stack in (model.encoder, model.decoder) for cache in stack.new_caches(len(self._vectors), model.layout.length)]
        super().__init__(caches, samples, guided=guided, step_size=model.cell_size)

    @torch.no_grad()
    def prefill(self, cells: Tensor | None = None) -> None:
        """Forget what was read, and read the first cells (B, n, S, C); None for none."""
        self.rewind(0)
        if cells is not None:
            self._read(cells.flatten(1, 2), torch.zeros(1, cells.shape[1], device=self.model.device))
            self.length = cells.shape[1]

    @torch.no_grad()
    def step(self, cell: Tensor) -> None:
        """Read the next cell (B, S, C), a finished one."""
        self._read(cell, torch.zeros(1, 1, device=self.model.device))
        self.length += 1

    @torch.no_grad()
    def velocity(self, noisy: Tensor, time: Tensor) -> tuple[Tensor, Tensor | None]:
        """Of the next cell (B, S, C) at a time (1,): (B, S, C) with the condition, and in a guided session without it, in the type of the cell."""
        found = self.model.output(self._read(noisy, time[None])).to(noisy.dtype)
        self.rewind(self.length)
        return self._streams(found)

    def _read(self, values: Tensor, times: Tensor) -> Tensor:
        return self.model.transform(self._doubled(values), self.model.cell_conditions(self._vectors, times), self._caches)
