"""From noise to data: Euler steps along a velocity, guided or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from visiontok.base.errors import TokenError
from visiontok.decoders.flow.guidance import Guidance

Velocity: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(samples (B, ...), the time (1,) that they share) -> their velocity (B, ...)."""


def euler(velocity: Velocity, noise: Tensor, *, steps: int) -> Tensor:
    """Follow a velocity from the noise (B, ...) at time 1 to time 0 in equal steps: x <- x - (t - t') * v.

    Raises:
        ValueError: if `steps` is not positive.
    """
    if steps < 1:
        raise ValueError(f"a flow needs at least one step, got {steps}")
    x = noise
    # On the CPU, where their last digits are the same for every device: some decoders count in whole thousandths of the time.
    for time, following in flow_times(steps).unfold(0, 2, 1):
        x = x - (time - following) * velocity(x, time[None].to(x.device))
    return x


def flow_times(steps: int) -> Tensor:
    """(steps + 1,) float32: 1, ..., 0."""
    return torch.linspace(1, 0, steps + 1)


def guided(conditional: Velocity, unconditional: Velocity, guidance: Guidance) -> Velocity:
    """One velocity from that with the conditions and that without.

    The result remembers the steps so far where its guidance does: make a new one for every run.
    """
    combine = guidance.start()

    return lambda x, time: combine(conditional(x, time), unconditional(x, time))


def starting_noise(ids: Tensor, shape: Sequence[int], *, generator: torch.Generator | None, noise: Tensor | None) -> Tensor:
    """Where the flows of a batch start: (B, *shape).

    Args:
        ids: (B, L) of the tokens.
        shape: of a sample.
        generator: draws the noise, sample by sample; without it a sample's noise follows from its first id.
        noise: itself, instead.

    Raises:
        TokenError: if `noise` has another shape.
    """
    expected = (len(ids), *shape)
    if noise is not None:
        if noise.shape != expected:
            raise TokenError(f"noise must have shape {expected}, got {tuple(noise.shape)}")
        return noise
    return seeded_noise(ids[:, 0].clamp_min(0).tolist(), shape) if generator is None else drawn_noise(len(ids), shape, generator)


def drawn_noise(samples: int, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """(samples, *shape), sample by sample, so that a sample's noise does not depend on how many follow."""
    return torch.stack([torch.randn(tuple(shape), generator=generator, device=generator.device) for _ in range(samples)])


def seeded_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """(len(seeds), *shape): each sample's noise follows from its own seed, whatever else is in the batch and wherever it is decoded."""
    return torch.stack([torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed)) for seed in seeds])
