"""The noise schedule of a diffusion head, and the subsets of its steps that sampling takes (improved DDPM, arXiv 2102.09672; ADM's respacing)."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from visiontok.base.errors import ConfigError

LARGEST_BETA = 0.999


class DiffusionSchedule:
    """Betas and what follows from them, all float64 on the CPU, also where a model is built on another device; `at` gives float32 on any.

    Args:
        betas: (T,) float64, the noise that every step adds.
        timesteps: (T,) int64, which step of training each of them is.
    """

    def __init__(self, betas: Tensor, timesteps: Tensor) -> None:
        self.betas, self.timesteps = betas, timesteps
        self.alphas_bar = torch.cumprod(1 - betas, dim=0)
        self._before = torch.cat([self.alphas_bar.new_ones(1), self.alphas_bar[:-1]])
        self._moved: dict[tuple[str, torch.device], Tensor] = {}

    def __len__(self) -> int:
        return len(self.betas)

    def at(self, name: str, steps: Tensor) -> Tensor:
        """(N, 1) float32: an attribute (T,) of this schedule at steps (N,), on their device, to which it is copied once."""
        key = name, steps.device
        if key not in self._moved:
            self._moved[key] = getattr(self, name).to(device=steps.device, dtype=torch.float32)
        return self._moved[key][steps][:, None]

    @cached_property
    def signal(self) -> Tensor:
        """Factor of the latent in a noisy one."""
        return self.alphas_bar.sqrt()

    @cached_property
    def noise(self) -> Tensor:
        """Factor of the noise in a noisy latent."""
        return (1 - self.alphas_bar).sqrt()

    @cached_property
    def latent_of_noisy(self) -> Tensor:
        """Factor of the noisy latent in the latent."""
        return (1 / self.alphas_bar).sqrt()

    @cached_property
    def latent_of_noise(self) -> Tensor:
        """Factor of the noise that is taken from it."""
        return (1 / self.alphas_bar - 1).sqrt()

    @cached_property
    def log_betas(self) -> Tensor:
        """The largest log-variance of a step."""
        return self.betas.log()

    @cached_property
    def posterior_log_variance_clipped(self) -> Tensor:
        """The smallest log-variance of a step; that of step 0, which is minus infinity, is replaced by that of step 1."""
        variance = self.betas * (1 - self._before) / (1 - self.alphas_bar)
        return torch.cat([variance[1:2] if len(variance) > 1 else self.betas[:1], variance[1:]]).log()

    @cached_property
    def posterior_of_latent(self) -> Tensor:
        """Factor of the latent in the mean of a step's result."""
        return self.betas * self._before.sqrt() / (1 - self.alphas_bar)

    @cached_property
    def posterior_of_noisy(self) -> Tensor:
        """Factor of the noisy latent in the mean of a step's result."""
        return (1 - self._before) * (1 - self.betas).sqrt() / (1 - self.alphas_bar)

    def noisy(self, latents: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        """Latents (N, C) after steps (N,), given the noise (N, C)."""
        return self.at("signal", steps) * latents + self.at("noise", steps) * noise

    def denoised(self, x: Tensor, epsilon: Tensor, steps: Tensor) -> Tensor:
        """The latent (N, C) that a noisy one and its predicted noise stand for."""
        return self.at("latent_of_noisy", steps) * x - self.at("latent_of_noise", steps) * epsilon

    def posterior_mean(self, latents: Tensor, x: Tensor, steps: Tensor) -> Tensor:
        """The mean (N, C) of a step's result, given the latent and the noisy latent."""
        return self.at("posterior_of_latent", steps) * latents + self.at("posterior_of_noisy", steps) * x

    def log_variance(self, share: Tensor, steps: Tensor) -> Tensor:
        """The log-variance (N, C) of a step's result: between its least at `share` -1 and its largest at 1, and beyond."""
        fraction = (share + 1) / 2
        return fraction * self.at("log_betas", steps) + (1 - fraction) * self.at("posterior_log_variance_clipped", steps)

    def respaced(self, respacing: str) -> DiffusionSchedule:
        """The schedule of some of its steps, with betas that give the same noise at them.

        Args:
            respacing: see `kept_steps`.

        Raises:
            ConfigError: if it cannot be read or asks for more steps than there are.
        """
        kept = torch.tensor(kept_steps(len(self), respacing), dtype=torch.int64, device="cpu")
        alphas_bar = self.alphas_bar[kept]
        return DiffusionSchedule(1 - alphas_bar / torch.cat([alphas_bar.new_ones(1), alphas_bar[:-1]]), self.timesteps[kept])


@lru_cache(maxsize=8)
def cosine_schedule(steps: int) -> DiffusionSchedule:
    """Cosine betas."""

    def remaining(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - remaining((step + 1) / steps) / remaining(step / steps), LARGEST_BETA) for step in range(steps)]
    return DiffusionSchedule(torch.tensor(betas, dtype=torch.float64, device="cpu"), torch.arange(steps, device="cpu"))


@lru_cache(maxsize=64)
def respaced_cosine_schedule(steps: int, respacing: str) -> DiffusionSchedule:
    """Some steps of the cosine schedule; see `DiffusionSchedule.respaced`."""
    return cosine_schedule(steps).respaced(respacing)


def kept_steps(total: int, respacing: str) -> tuple[int, ...]:
    """The steps that a respacing keeps of `total`, rising.

    Args:
        total: steps of training.
        respacing: "N" for N steps spread evenly, the first and the last included; "a,b,c" for as many in equal sections; "ddimN" for N steps with
            an integer stride, from 0.

    Raises:
        ConfigError: if it is none of these, keeps no step, or asks for more steps than a section has or a stride gives.
    """
    if respacing.startswith("ddim"):
        count = _count(respacing.removeprefix("ddim"), respacing)
        for stride in range(1, total):
            if len(range(0, total, stride)) == count:
                return tuple(range(0, total, stride))
        raise ConfigError(f"respacing {respacing!r}: no integer stride over {total} steps gives {count}")
    counts = [_count(part, respacing) for part in respacing.split(",")]
    kept: list[int] = []
    start = 0
    for section, count in enumerate(counts):
        size = total // len(counts) + (section < total % len(counts))
        if count > size:
            raise ConfigError(f"respacing {respacing!r}: {count} steps of a section of {size}")
        gap, offset = (size - 1) / (count - 1) if count > 1 else 1.0, 0.0
        for _ in range(count):
            kept.append(start + round(offset))
            offset += gap  # repeated addition: a product gives other steps for many counts
        start += size
    if not kept:
        raise ConfigError(f"respacing {respacing!r} keeps no step")
    return tuple(kept)


def _count(text: str, respacing: str) -> int:
    if not text.strip().isdecimal():
        raise ConfigError(f"respacing {respacing!r} must be a number of steps, several separated by commas, or 'ddim' and a number")
    return int(text)
