"""The session of `next-scale`: samples scale by scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from visiontok.base.errors import TokenError
from visiontok.generators.condition import Condition
from visiontok.generators.session import CachedSession, embedded_streams

if TYPE_CHECKING:
    from visiontok.generators.next_scale.model import NextScale


class NextScaleSession(CachedSession):
    """A batch of samples that a `NextScale` reads scale by scale, behind the elements of the condition; a step is a scale.

    `prefill`, then `step` after `step`; `rewind` forgets the last scales. `prefill` and `step` give what the head reads for all positions of the next
    scale, (B, n, D) with the condition, and in a guided session (B, n, D) without it. Nothing follows the last scale, so it is not read.
    """

    def __init__(self, model: NextScale, condition: Condition, samples: int, *, guided: bool) -> None:
        self.model = model
        self._prefix, self._mask = embedded_streams(model.condition, condition, samples, guided=guided, device=model.device)
        self._modulations = model.modulations(self._prefix)
        self._plan = model.plan(model.layout).to(model.device)
        self._read: list[Tensor] = []  # of every scale that was read, its embedded tokens (B, n, D)
        caches = model.backbone.new_caches(len(self._prefix), model.condition.length + model.ends[-1])
        super().__init__(caches, samples, guided=guided, prefix=model.condition.length)

    @torch.no_grad()
    def prefill(self, codes: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Read the condition and the first scales.

        Args:
            codes: (B, N, K) tokens of all positions of the first scales, but not of all; None for none.

        Raises:
            TokenError: if they are not those of whole scales.
        """
        self.length, self._read = 0, []
        self._keep(0)
        if codes is not None:
            if codes.shape[1] not in self.model.ends[:-1]:
                raise TokenError(f"{codes.shape[1]} positions are not those of some first scales, which end after {self.model.ends[:-1]}")
            for part in codes.split(self.model.sizes[: self.model.ends.index(codes.shape[1]) + 1], dim=1):
                self._add(part)
        return self._transform(torch.cat([self._prefix, self._elements_of(0)], dim=1))

    @torch.no_grad()
    def step(self, codes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read the tokens (B, n, K) of the next scale."""
        self._add(codes)
        return self._transform(self._elements_of(self.length))

    def rewind(self, length: int) -> None:
        super().rewind(length)
        self._read = self._read[:length]

    def _add(self, codes: Tensor) -> None:
        rows = slice(self.model.starts[self.length], self.model.ends[self.length])
        self._read.append(self.model.embed(codes, self._plan.first[rows], self._plan.held[rows]).to(self._prefix.dtype))
        self.length += 1

    def _elements_of(self, scale: int) -> Tensor:
        """The elements (B or 2 B, n, D) of the scales from this one to the next one."""
        first, last = self.model.starts[scale], self.model.ends[self.length]
        known = torch.cat(self._read, dim=1) if self._read else self._prefix.new_zeros(self.samples, 0, self._prefix.shape[2])
        return self._doubled(self.model.elements(known, first, last))

    def _transform(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        hidden = self.model.transform(x, scales=self.length + 1, prefix_mask=self._mask, caches=self._caches, modulations=self._modulations)
        return self._streams(hidden[:, -self.model.sizes[self.length] :])

    def _elements_after(self, length: int) -> int:
        return self._prefix_size + self.model.ends[length]
