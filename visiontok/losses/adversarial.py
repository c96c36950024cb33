"""GAN losses (hinge, non-saturating) and the LeCam regularization (Tseng et al. 2021). All means are taken in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F


def generator_hinge(fake_logits: Tensor) -> Tensor:
    """-mean D(fake); scalar."""
    return -fake_logits.float().mean()


def generator_non_saturating(fake_logits: Tensor) -> Tensor:
    """-mean log sigmoid of each image's mean logit (Goodfellow et al. 2014, as VQGANs with LeCam use it); scalar."""
    return F.softplus(-fake_logits.float().flatten(1).mean(dim=1)).mean()


def discriminator_hinge(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """(mean relu(1 - D(real)) + mean relu(1 + D(fake))) / 2; scalar."""
    return 0.5 * (F.relu(1 - real_logits.float()).mean() + F.relu(1 + fake_logits.float()).mean())


GENERATOR_LOSSES: Mapping[str, Callable[[Tensor], Tensor]] = {"hinge": generator_hinge, "non_saturating": generator_non_saturating}


class LeCam(nn.Module):
    """Keep the mean logits near moving averages of the other side's: mean relu(r - F)^2 + mean relu(R - f)^2.

    The averages (capitals) move after the loss is computed. Means run over the batches of all processes.
    """

    real_mean: Tensor
    fake_mean: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("real_mean", torch.zeros(1))
        self.register_buffer("fake_mean", torch.zeros(1))

    def forward(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Logit maps of a batch -> scalar."""
        real, fake = _mean_over_ranks(real_logits), _mean_over_ranks(fake_logits)
        # Copies: the averages are overwritten before the backward pass reads them.
        loss = F.relu(real - self.fake_mean.clone()).square().mean() + F.relu(self.real_mean.clone() - fake).square().mean()
        self.real_mean.lerp_(real.detach(), 1 - self.decay)
        self.fake_mean.lerp_(fake.detach(), 1 - self.decay)
        return loss


def _mean_over_ranks(logits: Tensor) -> Tensor:
    """The mean over every process's logits, of which there are equally many.

    Its gradient is that of this process's mean; averaged over the processes, as gradients are, this gives the gradient of the whole.
    """
    mean = logits.float().mean()
    if not (dist.is_available() and dist.is_initialized()):
        return mean
    whole = mean.detach().clone()
    dist.all_reduce(whole)
    return mean + (whole / dist.get_world_size() - mean.detach())
