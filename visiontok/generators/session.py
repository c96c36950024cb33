"""Reading a batch of samples step by step, with the keys and values of what was read."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from visiontok.generators.condition import Condition, ConditionEmbedding
from visiontok.layers.kv_cache import KVCache


def condition_streams(condition: Condition, samples: int, *, guided: bool, device: torch.device) -> list[Tensor]:
    """(B,) bool masks of hidden conditions, one for every time that a session reads the samples: as given, and in a guided one with all hidden."""
    given = torch.full((samples,), condition.kind == "none", dtype=torch.bool, device=device)
    return [given, torch.ones_like(given)] if guided else [given]


def embedded_streams(
    embed: ConditionEmbedding, condition: Condition, samples: int, *, guided: bool, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """The elements of the condition for every time that a session reads the samples, (B', P, D), and a mask (B', P) where some are padding; see
    `condition_streams`."""
    embedded = [embed(condition, dropped) for dropped in condition_streams(condition, samples, guided=guided, device=device)]
    elements, masks = zip(*embedded, strict=True)
    if all(mask is None for mask in masks):
        return torch.cat(elements), None
    return torch.cat(elements), torch.cat([elements[0].new_ones(samples, embed.length, dtype=torch.bool) if mask is None else mask for mask in masks])


class CachedSession:
    """Key-value caches that hold whole steps; a guided session holds every sample twice, without its condition after all with it.

    Args:
        caches: empty ones.
        samples: B.
        guided: whether every sample is read a second time without its condition.
        prefix: elements in the caches before the first step.
        step_size: elements per step, where all have as many.

    Attributes:
        samples: B.
        guided: whether every sample is read a second time without its condition.
        length: steps read so far.
    """

    def __init__(self, caches: list[KVCache], samples: int, *, guided: bool, prefix: int = 0, step_size: int = 1) -> None:
        self._caches, self._prefix_size, self._step_size = caches, prefix, step_size
        self.samples, self.guided, self.length = samples, guided, 0

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` steps; the next one that is read is then number `length`.

        Raises:
            ValueError: if fewer steps were read.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"{self.length} steps were read; {length} of them cannot be kept")
        self.length = length
        self._keep(self._elements_after(length))

    def _elements_after(self, length: int) -> int:
        """How many elements the caches hold after the first `length` steps."""
        return self._prefix_size + length * self._step_size

    def _keep(self, elements: int) -> None:
        for cache in self._caches:
            cache.rewind(elements)

    def _doubled(self, x: Tensor) -> Tensor:
        """(B, ...) once for every time that the samples are read."""
        return torch.cat([x, x]) if self.guided else x

    def _streams(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What was computed with the condition, and in a guided session without it."""
        return (x[: self.samples], x[self.samples :]) if self.guided else (x, None)


class NextStepSession(CachedSession, ABC):
    """A batch of samples that a causal model reads in generation order, behind the elements of the condition.

    `prefill`, then `step` after `step`; `rewind` forgets the last steps. Every call gives what the head reads for the next step: (B, D) with the
    condition, and in a guided session (B, D) without it.

    Args:
        prefix: (B or 2 * B, P, D) elements of the condition.
        caches: empty ones.
        samples: B.
        guided: see `CachedSession`.
    """

    def __init__(self, prefix: Tensor, caches: list[KVCache], samples: int, *, guided: bool) -> None:
        super().__init__(caches, samples, guided=guided, prefix=prefix.shape[1])
        self._prefix = prefix

    @torch.no_grad()
    def prefill(self, data: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Read the condition and the first steps.

        Args:
            data: (B, n, K) tokens or (B, n, C) latents in generation order; None for none.
        """
        self.length = 0
        self._keep(0)
        x = self._prefix if data is None else torch.cat([self._prefix, self._doubled(self._embed(data))], dim=1)
        return self._last(self._read(x, 0 if data is None else data.shape[1]))

    @torch.no_grad()
    def step(self, data: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read the tokens (B, K) or the latent (B, C) of the next step."""
        return self._last(self._read(self._doubled(self._embed(data[:, None])), 1))

    @torch.no_grad()
    def extend(self, data: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read several steps at once, (B, n, K) or (B, n, C): what the head reads after each of them, (B, n, D)."""
        return self._streams(self._read(self._doubled(self._embed(data)), data.shape[1]))

    def _read(self, x: Tensor, steps: int) -> Tensor:
        self.length += steps
        return self._transform(x)

    def _last(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        return self._streams(hidden[:, -1])

    @abstractmethod
    def _embed(self, data: Tensor) -> Tensor:
        """The next steps (B, n, ...) as elements (B, n, D)."""

    @abstractmethod
    def _transform(self, x: Tensor) -> Tensor:
        """Elements (B or 2 * B, n, D) that follow those in the caches -> what the head reads, of the same shape."""
