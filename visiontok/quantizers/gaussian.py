"""The diagonal Gaussian bottleneck of KL autoencoders: continuous, no ids."""

from __future__ import annotations

from typing import Literal, NoReturn

import torch
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.errors import TokenError
from visiontok.quantizers.base import Quantized, Quantizer


class GaussianConfig(Config):
    """A Gaussian posterior per latent.

    Attributes:
        dim: width D of a latent; the encoder gives 2 D numbers, means then log-variances.
        kl_weight: of the divergence from the unit Gaussian, summed over a sample and averaged over the batch.
        scale, shift: what leaves the bottleneck is (latent - shift) * scale; the divergence is that of the posterior itself.
    """

    type: Literal["gaussian"] = "gaussian"
    dim: int = Field(gt=0)
    kl_weight: float = Field(default=1e-6, ge=0)
    scale: float = Field(default=1.0, gt=0)
    shift: float = 0.0

    def build(self) -> GaussianBottleneck:
        """The bottleneck; it has no weights."""
        return GaussianBottleneck(self)


class GaussianBottleneck(Quantizer):
    """Reparametrised samples in training; the mode in evaluation, or a sample when a generator is given."""

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, latents: Tensor) -> Quantized:
        """Posterior parameters (..., 2 D) -> latents (..., D) and the loss `kl`, times its weight."""
        mean, _ = self.posterior(latents)
        return self.with_noise(latents, torch.randn_like(mean) if self.training else torch.zeros_like(mean))

    def sample(self, latents: Tensor, generator: torch.Generator) -> Quantized:
        """Like `forward`, with noise of the generator, drawn on its device."""
        mean, _ = self.posterior(latents)
        return self.with_noise(latents, torch.randn(mean.shape, generator=generator, device=generator.device).to(mean))

    def with_noise(self, latents: Tensor, noise: Tensor) -> Quantized:
        """(mean + std * noise - shift) * scale, for noise (..., D)."""
        mean, logvar = self.posterior(latents)
        kl = self.kl_per_token(latents).flatten(1).sum(dim=1).mean()
        drawn = (mean + torch.exp(logvar / 2) * noise - self.config.shift) * self.config.scale
        return Quantized(drawn, None, {"kl": self.config.kl_weight * kl}, {"kl": kl.detach()})

    def restore(self, latents: Tensor) -> Tensor:
        """What left the bottleneck (..., D), at the posterior's own scale again."""
        return latents / self.config.scale + self.config.shift

    def posterior(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each (..., D); the log-variance is clamped to [-30, 20]."""
        mean, logvar = latents.chunk(2, dim=-1)
        return mean, logvar.clamp(-30.0, 20.0)

    def kl_per_token(self, latents: Tensor) -> Tensor:
        """(...): divergence of each posterior from the unit Gaussian, in nats."""
        mean, logvar = self.posterior(latents)
        return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).sum(dim=-1)

    def lookup(self, indices: Tensor) -> NoReturn:
        """Continuous latents have no ids."""
        raise TokenError("this tokenizer is continuous: decode Latents, there are no ids to look up")
