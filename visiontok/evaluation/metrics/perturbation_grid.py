"""Which perturbations a suite averages over."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from visiontok.base.config import Config, Positive

Share = Annotated[float, Field(ge=0, le=1)]


class PerturbationGrid(Config):
    """Every alpha with every delta, on every sample.

    The defaults are the grid of the paper that introduced pFID (arXiv 2503.08354), as it is described there; no released file confirms it.

    Attributes:
        alphas: shares of the tokens that are replaced.
        deltas: numbers of nearest codes that they are drawn from.
        seed: of the draws, which depend on the index of a sample and not on its batch; they are the same at every setting.
    """

    alphas: tuple[Share, ...] = Field(default=(0.9, 0.8, 0.7, 0.6, 0.5), min_length=1)
    deltas: tuple[Positive, ...] = Field(default=(200, 280, 360), min_length=1)
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def settings(self) -> tuple[tuple[float, int], ...]:
        """(alpha, delta) pairs."""
        return tuple((alpha, delta) for alpha in self.alphas for delta in self.deltas)
