"""Sampling the latents of one cell after the other, each by a flow from noise (xAR, arXiv 2502.20388)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from visiontok.base.finite import check_finite
from visiontok.base.noise import Noise
from visiontok.decoders.flow.sampling import Velocity, euler_between, euler_maruyama_between
from visiontok.generators.decoding.base import SamplingConfig
from visiontok.generators.decoding.guidance import Guidance, RisingGuidance, guide

LAST_TIME = 0.04
"""Where the last, noiseless step of xAR's stochastic sampler begins."""


class Solver(Protocol):
    """Follows a velocity from noise to data."""

    def __call__(self, velocity: Velocity, start: Tensor, noise: Noise) -> Tensor:
        """From noise (B, S, C) float64 at time 1 to data at time 0."""


@dataclass(frozen=True)
class EulerMaruyamaSolver:
    """Steps of the reverse stochastic process in equal times from 1 to `LAST_TIME`, and a noiseless one to 0.

    Attributes:
        steps: passes through the network, at least 2.
    """

    steps: int

    def __call__(self, velocity: Velocity, start: Tensor, noise: Noise) -> Tensor:
        times = torch.cat([torch.linspace(1, LAST_TIME, self.steps, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
        return euler_maruyama_between(velocity, start, times, noise)


@dataclass(frozen=True)
class EulerSolver:
    """Equal steps along the velocity.

    Attributes:
        steps: passes through the network.
    """

    steps: int

    def __call__(self, velocity: Velocity, start: Tensor, noise: Noise) -> Tensor:
        return euler_between(velocity, start, torch.linspace(1, 0, self.steps + 1, dtype=torch.float64))


class CellSession(Protocol):
    """What reads cells one after the other and gives the velocity of the next.

    Attributes:
        samples: B.
        cell_shape: (S, C) latents of a cell.
        num_cells: of a sample.
    """

    samples: int
    cell_shape: tuple[int, int]
    num_cells: int

    def prefill(self) -> None:
        """Forget all cells."""

    def step(self, cell: Tensor) -> None:
        """Read a finished cell (B, S, C)."""

    def velocity(self, noisy: Tensor, time: Tensor) -> tuple[Tensor, Tensor | None]:
        """Of the next cell (B, S, C) at a time (1,): with the condition, and in a guided session without it."""


@dataclass(frozen=True)
class CellSampler:
    """The strategy of a generator that emits one cell of latents per step.

    Attributes:
        guidance: scale of classifier-free guidance, on velocities, of every cell.
        solver: of every cell's flow.
    """

    guidance: Guidance
    solver: Solver

    def is_guided(self, step: int, num_steps: int) -> bool:
        """Whether a cell needs the velocity without the condition."""
        return self.guidance(step, num_steps) != 1

    def __call__(self, session: CellSession, noise: Noise) -> Tensor:
        """(B, M * S, C) float32: the M cells in generation order; for each a normal draw (B, S, C), then those of the solver.

        Raises:
            NonFiniteError: naming the cell.
        """
        session.prefill()
        cells: list[Tensor] = []
        for number in range(session.num_cells):
            if cells:
                session.step(cells[-1])
            scale = self.guidance(number, session.num_cells)

            def velocity(noisy: Tensor, time: Tensor, scale: float = scale) -> Tensor:
                conditional, unconditional = session.velocity(noisy, time)
                return conditional if unconditional is None or scale == 1 else guide(conditional, unconditional, scale)

            latents = self.solver(velocity, noise.normal(session.samples, *session.cell_shape).double(), noise)
            check_finite(latents, stage=f"the latents of generation step {number}")
            cells.append(latents.float())
        return torch.cat(cells, dim=1)


class CellSampling(SamplingConfig):
    """Parameters of `CellSampler`.

    Attributes:
        guidance: scale s of `u + s * (c - u)` at the last cell; it rises linearly from 1 at the first. 1 is off.
        solver: `euler-maruyama` along the stochastic process, `euler` along the flow.
        steps: passes through the network per cell.
    """

    guidance: float = 1.0
    solver: Literal["euler-maruyama", "euler"] = "euler-maruyama"
    steps: Annotated[int, Field(ge=2)] = 50

    def sampler(self) -> CellSampler:
        """The strategy objects."""
        solver = EulerSolver(self.steps) if self.solver == "euler" else EulerMaruyamaSolver(self.steps)
        return CellSampler(RisingGuidance(self.guidance), solver)
