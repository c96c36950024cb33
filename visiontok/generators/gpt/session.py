"""Reading tokens step by step, with the keys and values of what was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from visiontok.generators.condition import Condition
from visiontok.generators.orders import generation_steps
from visiontok.tokens import TokenLayout

if TYPE_CHECKING:
    from visiontok.generators.gpt.model import GPT


class GPTSession:
    """A batch of samples of one layout that a `GPT` reads in generation order.

    `prefill`, then `step` after `step`; `rewind` forgets the last tokens. Every call gives what the head reads for the next token: (B, D) with the
    condition, and in a guided session (B, D) without it.

    Attributes:
        samples: B.
        layout: of the samples.
        length: tokens read so far.
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
        ordered = generation_steps(layout)
        self._first = ordered.first.to(model.device)
        self._coordinates = ordered.coordinates.to(model.device)[None]
        self._codebooks = [_codebook(layout, position) for position in ordered.positions.tolist()]
        self._caches = model.new_caches(len(prefix), model.condition.length + layout.length)

    def codebook(self, step: int) -> int:
        """The codebook level that step `step` predicts, for parameters that differ among levels."""
        return self._codebooks[step]

    @torch.no_grad()
    def prefill(self, data: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Read the condition and the first tokens.

        Args:
            data: (B, n) tokens or (B, n, C) latents in generation order; None for none.
        """
        self.length = 0
        for cache in self._caches:
            cache.rewind(0)
        x = self._prefix if data is None else torch.cat([self._prefix, self._embed(data)], dim=1)
        return self._read(x, 0 if data is None else data.shape[1])

    @torch.no_grad()
    def step(self, data: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read the next token (B,) or latent (B, C)."""
        return self._read(self._embed(data[:, None]), 1)

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens; continue with `step`, whose token then has the index `length`.

        Raises:
            ValueError: if fewer tokens were read.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"{self.length} tokens were read; {length} of them cannot be kept")
        self.length = length
        for cache in self._caches:
            cache.rewind(self.model.condition.length + length)

    def _embed(self, data: Tensor) -> Tensor:
        first = self._first[self.length : self.length + data.shape[1]]
        x = self.model.embed(data, first).to(self._prefix.dtype)
        return torch.cat([x, x]) if self.guided else x

    def _read(self, x: Tensor, tokens: int) -> tuple[Tensor, Tensor | None]:
        self.length += tokens
        hidden = self.model.transform(x, self._coordinates, prefix_mask=self._mask, caches=self._caches)[:, -1]
        return (hidden[: self.samples], hidden[self.samples :]) if self.guided else (hidden, None)


def _codebook(layout: TokenLayout, position: int) -> int:
    """The codebook of a storage position, or its segment where positions have one codebook each."""
    for number, segment in enumerate(layout.segments):
        if position < segment.length:
            return position % segment.codebooks if segment.codebooks > 1 else number
        position -= segment.length
    raise ValueError(f"{position} is beyond the layout")
