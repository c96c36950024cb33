"""Weights that make every loss contribute a stated share of the gradient at the output (Défossez et al. 2022, arXiv 2210.13438, section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from visiontok.base.config import Config
from visiontok.losses.adversarial import mean_of_ranks

_LEAST_NORM = 1e-12


class BalancerConfig(Config):
    """Of the gradients at the output.

    Attributes:
        decay: of the moving averages of their norms.
        total_norm: of the sum of the gradients per sample, if they all point in one direction.
    """

    decay: float = Field(default=0.999, ge=0, lt=1)
    total_norm: float = Field(default=1.0, gt=0)


class LossBalancer(nn.Module):
    """Multiplies every loss l_i by R w_i / sum_j w_j / n_i, with n_i the moving average of the norm of its gradient at a sample's output, and by 0
    where it has no gradient.

    The gradient of a sample is that of its own loss: the gradient of the batch's mean, times the samples of the batch. So the result does not depend
    on how a batch is divided among processes. EnCodec leaves that factor out, so that its R is this one times the samples of a process.

    Args:
        config: decay and R.
        weights: w_i, by the names of the losses.
    """

    norms: Tensor
    counts: Tensor

    def __init__(self, config: BalancerConfig, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.config, self.weights = config, dict(weights)
        self.register_buffer("norms", torch.zeros(len(weights), dtype=torch.float32))
        self.register_buffer("counts", torch.zeros(len(weights), dtype=torch.float32))

    def forward(self, losses: Mapping[str, Tensor], output: Tensor, *, scale: float = 1.0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The balanced losses; and to be logged, the averages of the norms, which move first, and the losses as they came.

        Args:
            losses: some or all of the named ones, scalars; their graphs are kept.
            output: (B, ...) that they depend on.
            scale: the losses are multiplied by it before their gradients are computed, so that those do not vanish in half precision. Where they
                overflow instead, the losses become 0 and the averages stay: a gradient scaler will skip that step.
        """
        found = torch.stack([self._norm(loss, output, scale) for loss in losses.values()])
        rows = torch.tensor([list(self.weights).index(name) for name in losses], dtype=torch.int64, device=found.device)
        shares = torch.tensor([self.weights[name] for name in losses], dtype=torch.float32, device=found.device)
        finite, decay = found.isfinite().all(), self.config.decay
        self.norms[rows] = torch.where(finite, decay * self.norms[rows] + (1 - decay) * found, self.norms[rows])
        self.counts[rows] = torch.where(finite, decay * self.counts[rows] + (1 - decay), self.counts[rows])
        averages = self.norms[rows] / self.counts[rows].clamp_min(1e-12)  # unbiased, as Adam's
        counts = finite & (averages > _LEAST_NORM)
        factors = torch.where(counts, self.config.total_norm * shares / shares.sum() / averages.clamp_min(_LEAST_NORM), 0.0)
        balanced = {name: factor * loss for (name, loss), factor in zip(losses.items(), factors, strict=True)}
        stats = {f"gradient_norm_{name}": average for name, average in zip(losses, averages, strict=True)}
        return balanced, stats | {f"unbalanced_{name}": loss.detach() for name, loss in losses.items()}

    def _norm(self, loss: Tensor, output: Tensor, scale: float) -> Tensor:
        """The mean over the samples of all processes; scalar."""
        (gradient,) = torch.autograd.grad(scale * loss, output, retain_graph=True)
        return mean_of_ranks(gradient.float().flatten(1).norm(dim=1).mean() * (len(output) / scale))
