"""A continuous latent per position from a mixture of Gaussians (GIVT, arXiv 2312.02116), in the form of Divot (arXiv 2412.04432)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.base.noise import Noise
from visiontok.generators.decoding.categorical import sample_categorical
from visiontok.generators.heads.base import LatentHead

SMALLEST_VARIANCE = 1e-5


class MixtureHeadConfig(Config):
    """Sizes of the head.

    Attributes:
        num_components: K Gaussians with diagonal covariances.
        sampling: `component` draws a component, then a latent from it; `weighted` draws one from every component and averages them by their
            probabilities; `mean` takes the mean of the mixture, without a draw.
    """

    num_components: Positive = 16
    sampling: Literal["component", "weighted", "mean"] = "component"


@dataclass(frozen=True)
class GaussianMixture:
    """Distributions of latents.

    Attributes:
        means, variances: (..., K, C) float32.
        logits: (..., K) float32 of the components.
    """

    means: Tensor
    variances: Tensor
    logits: Tensor

    @classmethod
    def of(cls, parameters: Tensor, *, num_components: int, channels: int) -> GaussianMixture:
        """From numbers (..., 2 K C + K): means, component by component, softplus inverses of the variances, logits."""
        size = num_components * channels
        means, variances, logits = parameters.float().split([size, size, num_components], dim=-1)
        shape = (num_components, channels)
        return cls(means.unflatten(-1, shape), F.softplus(variances.unflatten(-1, shape)).clamp_min(SMALLEST_VARIANCE), logits)

    def log_density(self, latents: Tensor) -> Tensor:
        """(..., C) -> (...)."""
        squared = (latents[..., None, :] - self.means).square() / self.variances
        of_components = -0.5 * (squared + self.variances.log() + math.log(2 * math.pi)).sum(dim=-1)
        return torch.logsumexp(self.logits.log_softmax(dim=-1) + of_components, dim=-1)

    def component(self, noise: Noise, temperature: float) -> Tensor:
        """A latent (..., C) of one drawn component. Draws: exponential (..., K), then normal (..., C), whose deviation is the temperature."""
        chosen = sample_categorical(self.logits, noise)[..., None, None].expand(*self.means.shape[:-2], 1, self.means.shape[-1])
        mean, variance = (part.gather(-2, chosen).squeeze(-2) for part in (self.means, self.variances))
        return mean + temperature * variance.sqrt() * noise.normal(*mean.shape).to(mean)

    def weighted(self, noise: Noise, temperature: float) -> Tensor:
        """The average (..., C) of a latent of every component. Draws: normal (..., K, C), whose deviation is the temperature."""
        drawn = self.means + temperature * self.variances.sqrt() * noise.normal(*self.means.shape).to(self.means)
        return (self.logits.softmax(dim=-1)[..., None] * drawn).sum(dim=-2)

    def mean(self) -> Tensor:
        """(..., C)."""
        return (self.logits.softmax(dim=-1)[..., None] * self.means).sum(dim=-2)


SAMPLINGS: Mapping[str, Callable[[GaussianMixture, Noise, float], Tensor]] = {
    "component": GaussianMixture.component,
    "weighted": GaussianMixture.weighted,
    "mean": lambda mixture, noise, temperature: mixture.mean(),
}


class MixtureHead(LatentHead):
    """Two layers from the backbone's output to the parameters of a mixture.

    Args:
        config: sizes.
        dim: D of the backbone.
        channels: C of a latent.
    """

    def __init__(self, config: MixtureHeadConfig, *, dim: int, channels: int) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        size = config.num_components * (2 * channels + 1)
        self.fc1, self.fc2 = nn.Linear(dim, size), nn.Linear(size, size)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) -> the numbers (..., 2 K C + K) that make a mixture."""
        result: Tensor = self.fc2(F.gelu(self.fc1(hidden)))
        return result

    def mixture(self, parameters: Tensor) -> GaussianMixture:
        """See `GaussianMixture.of`."""
        return GaussianMixture.of(parameters, num_components=self.config.num_components, channels=self.channels)

    def loss(self, hidden: Tensor, latents: Tensor, held: Tensor, noise: Noise) -> Tensor:
        """Minus the log-density, in nats per channel. Draws nothing."""
        return -self.mixture(self(hidden[held])).log_density(latents[held].float()) / self.channels

    def sample(self, hidden: Tensor, unconditional: Tensor | None, noise: Noise, *, steps: int, guidance: float, temperature: float) -> Tensor:
        """One pass, whatever `steps`; guided on the numbers that make the mixture. Divot's variance scale 0.1 is the temperature sqrt(0.1)."""
        parameters = self(hidden)
        if unconditional is not None:
            without = self(unconditional)
            parameters = without + guidance * (parameters - without)
        return SAMPLINGS[self.config.sampling](self.mixture(parameters), noise, temperature)
