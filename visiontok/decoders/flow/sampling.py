"""From noise to data: Euler steps along a velocity, guided or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.noise import Noise, NoiseLike, as_noise
from visiontok.decoders.flow.guidance import Guidance

Velocity: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(samples (B, ...), the time (1,) that they share) -> their velocity (B, ...)."""


class FlowSampling(Config):
    """How tokens are decoded along a flow.

    Attributes:
        steps: of the flow; each is one pass of the decoder, and with guidance a second one without tokens.
        guidance: how the velocities with and without tokens are combined; None for the velocity with tokens alone.
    """

    steps: Positive = 20
    guidance: Guidance | None = None


def euler(velocity: Velocity, noise: Tensor, *, steps: int) -> Tensor:
    """Follow a velocity from the noise (B, ...) at time 1 to time 0 in equal steps: x <- x - (t - t') * v.

    Raises:
        ValueError: if `steps` is not positive.
    """
    if steps < 1:
        raise ValueError(f"a flow needs at least one step, got {steps}")
    return euler_between(velocity, noise, flow_times(steps))


def euler_between(velocity: Velocity, start: Tensor, times: Tensor) -> Tensor:
    """Euler steps from a point (B, ...) at the first of falling times (N,) to the last of them, in the type of the point."""
    x = start
    # On the CPU, where their last digits are the same for every device: some decoders count in whole thousandths of the time.
    for time, following in times.unfold(0, 2, 1):
        x = x - (time - following) * velocity(x, time[None].to(x.device))
    return x


def euler_maruyama_between(velocity: Velocity, start: Tensor, times: Tensor, noise: Noise) -> Tensor:
    """The same along the reverse stochastic process of the flow, dx = ((2 - t) v + x) dt + sqrt(2 t) dw, as xAR samples (arXiv 2502.20388).

    The last step adds no noise. Draws: a normal one in the shape of the point for every other step.
    """
    x = start
    for time, following in times.unfold(0, 2, 1):
        drift = (2 - time) * velocity(x, time[None].to(x.device)) + x
        x = x - (time - following) * drift
        if following > times[-1]:
            x = x + (2 * time).sqrt() * (time - following).sqrt() * noise.normal(*x.shape).to(x)
    return x


def flow_times(steps: int) -> Tensor:
    """(steps + 1,) float32: 1, ..., 0."""
    # As torch.linspace computes it with fused multiply-add, from both ends; without, on other processors, last digits of its results differ.
    step = torch.tensor(-1 / steps, dtype=torch.float32).double()
    index = torch.arange(steps + 1, dtype=torch.float64)
    return torch.where(index < (steps + 1) // 2, 1 + step * index, -step * (steps - index)).float()


def guided(conditional: Velocity, unconditional: Velocity, guidance: Guidance) -> Velocity:
    """One velocity from that with the conditions and that without.

    The result remembers the steps so far where its guidance does: make a new one for every run.
    """
    combine = guidance.start()

    return lambda x, time: combine(conditional(x, time), unconditional(x, time))


def starting_noise(indices: Tensor, shape: Sequence[int], noise: NoiseLike) -> Tensor:
    """Where the flows of a batch start: (B, *shape).

    Args:
        indices: (B, L) of the tokens.
        shape: of a sample.
        noise: one normal draw (B, *shape); None for noise that follows from a sample's first token.
    """
    if noise is None:
        return seeded_noise(indices[:, 0].clamp_min(0).tolist(), shape)
    return as_noise(noise, indices.device).normal(len(indices), *shape)


def seeded_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """(len(seeds), *shape): each sample's noise follows from its own seed, whatever else is in the batch and wherever it is decoded."""
    return torch.stack([torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float32) for seed in seeds])
