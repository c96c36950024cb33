"""Hinge GAN losses and the LeCam regularisation (Tseng et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def generator_hinge(fake_logits: Tensor) -> Tensor:
    """-mean D(fake); scalar."""
    return -fake_logits.mean()


def discriminator_hinge(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """(mean relu(1 - D(real)) + mean relu(1 + D(fake))) / 2; scalar."""
    return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())


class LeCam(nn.Module):
    """Keep the mean logits near moving averages of the other side's: mean relu(r - F)^2 + mean relu(R - f)^2.

    The averages (capitals) move after the loss is computed.
    """

    real_mean: Tensor
    fake_mean: Tensor

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("real_mean", torch.zeros(1))
        self.register_buffer("fake_mean", torch.zeros(1))

    def forward(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Logit maps of a batch -> scalar."""
        real, fake = real_logits.mean(), fake_logits.mean()
        # Copies: the averages are overwritten before the backward pass reads them.
        loss = F.relu(real - self.fake_mean.clone()).square().mean() + F.relu(self.real_mean.clone() - fake).square().mean()
        self.real_mean.lerp_(real.detach(), 1 - self.decay)
        self.fake_mean.lerp_(fake.detach(), 1 - self.decay)
        return loss
