"""Continuous bottlenecks: the diagonal Gaussian of KL autoencoders, and none at all. There are no indices."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.noise import NoiseLike, as_noise
from visiontok.quantizers.base import ContinuousBottleneck, Quantized, configured_by, of_all_ranks
from visiontok.quantizers.masks import without_padding


class IdentityBottleneckConfig(Config):
    """Latents as they are.

    Attributes:
        dim: D of a latent.
    """

    type: Literal["continuous"] = "continuous"
    dim: Positive

    def build(self) -> IdentityBottleneck:
        """The bottleneck; it has no weights."""
        return IdentityBottleneck(**dict(self))


class IdentityBottleneck(ContinuousBottleneck):
    """Passes latents through, without losses."""

    @configured_by(IdentityBottleneckConfig)
    def __init__(self, config: IdentityBottleneckConfig) -> None:
        super().__init__(input_dim=config.dim)
        self.config = config

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        return Quantized(without_padding(latents, mask), None)

    def mode(self, latents: Tensor) -> Tensor:
        return latents


class GaussianBottleneckConfig(Config):
    """A Gaussian posterior per latent.

    Attributes:
        dim: D of a latent; the encoder gives 2 D channels, means then log-variances.
        kl_weight: of the divergence from the unit Gaussian, summed over a sample and averaged over the batch.
        scale, shift: what leaves the bottleneck is (latent - shift) * scale; the divergence is that of the posterior itself.
    """

    type: Literal["gaussian"] = "gaussian"
    dim: Positive
    kl_weight: float = Field(default=1e-6, ge=0)
    scale: float = Field(default=1.0, gt=0)
    shift: float = 0.0

    def build(self) -> GaussianBottleneck:
        """The bottleneck; it has no weights."""
        return GaussianBottleneck(**dict(self))


class GaussianBottleneck(ContinuousBottleneck):
    """Reparametrized samples in training; in evaluation the mode, or a sample where noise is given. Works in float32 whatever the model's type."""

    @configured_by(GaussianBottleneckConfig)
    def __init__(self, config: GaussianBottleneckConfig) -> None:
        super().__init__(input_dim=2 * config.dim)
        self.config = config

    @property
    def is_stochastic(self) -> bool:
        return True

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """Posterior parameters (B, ..., 2 D) -> latents (B, ..., D) and the loss `kl`, times its weight. Draws normal noise (B, ..., D)."""
        mean, logvar = self.posterior(without_padding(latents, mask))
        drawn = mean
        if self.training or noise is not None:
            drawn = mean + torch.exp(logvar / 2) * as_noise(noise, mean.device).normal(*mean.shape)
        kl = self._kl(mean, logvar)
        samples = None
        if mask is None:
            total = kl.sum() / max(kl.shape[:1].numel(), 1)
        else:
            samples = mask.reshape(len(mask), -1).any(dim=1).sum()
            total = kl.masked_fill(~mask, 0.0).sum() / samples.clamp_min(1)
        scaled = without_padding(self._scaled(drawn).to(latents.dtype), mask)
        return of_all_ranks(Quantized(scaled, None, {"kl": self.config.kl_weight * total}, {"kl": total.detach()}), samples)

    def mode(self, latents: Tensor) -> Tensor:
        """Posterior parameters (..., 2 D) -> the means, shifted and scaled (..., D)."""
        return self._scaled(self.posterior(latents)[0]).to(latents.dtype)

    def restore(self, latents: Tensor) -> Tensor:
        """What left the bottleneck (..., D), at the posterior's own scale again."""
        return latents / self.config.scale + self.config.shift

    def posterior(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each (..., D), float32 or wider; the log-variance is clamped to [-30, 20]."""
        wide = latents.to(torch.promote_types(latents.dtype, torch.float32))
        mean, logvar = wide.chunk(2, dim=-1)
        return mean, logvar.clamp(-30.0, 20.0)

    def kl_per_token(self, latents: Tensor) -> Tensor:
        """(...): divergence of each posterior from the unit Gaussian, in nats."""
        return self._kl(*self.posterior(latents))

    def _kl(self, mean: Tensor, logvar: Tensor) -> Tensor:
        return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).sum(dim=-1)

    def _scaled(self, latents: Tensor) -> Tensor:
        return (latents - self.config.shift) * self.config.scale
