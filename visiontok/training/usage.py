"""Codebook usage over a window of recent batches, for the curves and the collapse alarm."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from visiontok.tokens import Segment, TokenLayout, Tokens

_LARGEST_CODEBOOK = 2**20
"""Codebooks with more entries (binary and lattice quantizers) have no single codes that could die, and their tables would be too large."""


class UsageWindow:
    """For every codebook of a layout, which of its codes appeared in the last `window` steps.

    A table holds, for every code, the step at which it was last seen; the window itself is never stored. Each process keeps the table of
    its own samples; `usage` and `state` join them and must be called by every process.
    """

    def __init__(self, layout: TokenLayout, *, window: int, device: torch.device) -> None:
        self.window = window
        self.first_step: int | None = None
        self._last_seen: dict[str, Tensor] = {}
        for segment in layout.segments if not layout.is_continuous else ():
            for codebook, size in enumerate(segment.vocab_sizes):
                if size <= _LARGEST_CODEBOOK:
                    self._last_seen[_name(segment, codebook)] = torch.full((size,), -1, dtype=torch.int64, device=device)

    def update(self, tokens: Tokens, step: int) -> None:
        """Note the codes of a batch. Its segments may have other shapes than the layout's; samples without all tokens are not counted."""
        if self.first_step is None:
            self.first_step = step
        if not tokens.is_full:
            return
        for segment in tokens.layout.segments:
            indices = tokens.view(segment.name).reshape(-1, segment.codebooks)
            for codebook in range(segment.codebooks):
                if _name(segment, codebook) in self._last_seen:
                    self._last_seen[_name(segment, codebook)][indices[:, codebook]] = step

    def is_full(self, step: int) -> bool:
        """Whether `window` steps were seen, so that a low usage means something."""
        return self.first_step is not None and step - self.first_step + 1 >= self.window

    def usage(self, step: int, accelerator: Accelerator) -> dict[str, float]:
        """The share of each codebook that appeared within the window that ends at `step`."""
        return {name: float((seen >= max(0, step - self.window + 1)).float().mean()) for name, seen in self._joined(accelerator).items()}

    def state(self, accelerator: Accelerator) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"first_step": self.first_step, "last_seen": self._joined(accelerator)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.first_step = state["first_step"]
        for name, last_seen in self._last_seen.items():
            last_seen.copy_(state["last_seen"][name])

    def _joined(self, accelerator: Accelerator) -> dict[str, Tensor]:
        return {name: accelerator.gather(seen[None]).amax(dim=0) for name, seen in self._last_seen.items()}


def _codebooks(segment: Segment) -> list[str]:
    """What the codebooks of a segment are called; segments that share a codebook share its name."""
    name = segment.codebook or segment.name
    return [name] if segment.codebooks == 1 else [f"{name}.{number}" for number in range(segment.codebooks)]


def _name(segment: Segment, codebook: int) -> str:
    return (segment.codebook or segment.name) + (f".{codebook}" if segment.codebooks > 1 else "")
