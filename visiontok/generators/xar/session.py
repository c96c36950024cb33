"""Reading cells one after the other, with the keys and values of what was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from visiontok.generators.condition import Condition

if TYPE_CHECKING:
    from visiontok.generators.xar.model import Xar


class XarSession:
    """A batch of samples that an `Xar` reads cell by cell.

    `prefill`, then `step` after `step`; `rewind` forgets the last cells; `velocity` is that of the next cell and adds nothing to what was read.

    Attributes:
        samples: B.
        cell_shape: (S, C) latents of a cell.
        num_cells: of a whole sample.
        length: cells read so far.
    """

    def __init__(self, model: Xar, condition: Condition, samples: int, *, guided: bool) -> None:
        self.model, self.samples, self.guided = model, samples, guided
        self.cell_shape, self.num_cells, self.length = (model.cell_size, model.output.out_features), model.num_cells, 0
        none = torch.full((samples,), condition.kind == "none", dtype=torch.bool, device=model.device)
        vectors = model.class_vectors(condition, none)
        self._vectors = torch.cat([vectors, model.class_vectors(condition, torch.ones_like(none))]) if guided else vectors
        self._caches = [cache for stack in (model.encoder, model.decoder) for cache in stack.new_caches(len(self._vectors), model.layout.length)]

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

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` cells.

        Raises:
            ValueError: if fewer cells were read.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"{self.length} cells were read; {length} of them cannot be kept")
        self.length = length
        for cache in self._caches:
            cache.rewind(length * self.model.cell_size)

    @torch.no_grad()
    def velocity(self, noisy: Tensor, time: Tensor) -> tuple[Tensor, Tensor | None]:
        """Of the next cell (B, S, C) at a time (1,): (B, S, C) with the condition, and in a guided session without it, in the type of the cell."""
        found = self.model.output(self._read(noisy, time[None])).to(noisy.dtype)
        self.rewind(self.length)
        return (found[: self.samples], found[self.samples :]) if self.guided else (found, None)

    def _read(self, values: Tensor, times: Tensor) -> Tensor:
        values = torch.cat([values, values]) if self.guided else values
        return self.model.transform(values, self.model.cell_conditions(self._vectors, times), self._caches)
