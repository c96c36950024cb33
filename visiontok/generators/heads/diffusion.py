"""A continuous latent per position by a small diffusion model that the backbone conditions (MAR, arXiv 2406.11838)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.base.noise import Noise, integers
from visiontok.generators.heads.base import LatentHead
from visiontok.generators.heads.diffusion_prediction import PREDICTIONS, PredictionName
from visiontok.generators.heads.diffusion_schedule import cosine_schedule, kept_steps, respaced_cosine_schedule
from visiontok.layers.block import Block
from visiontok.layers.initialization import xavier_linears
from visiontok.layers.timesteps import TimestepEmbedding

NORM_EPS = 1e-6
HALF_BIN = 1 / 255
"""Half the width of the bins over which the last step's likelihood is taken: of pixels in [-1, 1], though latents are none."""


class DiffusionHeadConfig(Config):
    """Sizes of the head.

    Attributes:
        dim: of its hidden layers.
        depth: number of its blocks.
        num_timesteps: steps of the diffusion.
        copies: noisy copies of every latent that a training step sees.
        prediction: what the network predicts, `epsilon` (the noise, as in MAR) or `v` (for training and sampling in bfloat16); see
            `diffusion_prediction`.
    """

    dim: Positive = 1024
    depth: Positive = 6
    num_timesteps: Positive = 1000
    copies: Positive = 4
    prediction: PredictionName = "epsilon"


@dataclass(frozen=True)
class DenoisedLatents:
    """Sampled latents and the last steps that led to them, all (B, M, C) float32.

    Attributes:
        values: the latents; the last step adds no noise, so they are its means.
        std: the deviation of the last step, times the temperature.
        log_std: the sum of the log-deviations of all other steps.
    """

    values: Tensor
    std: Tensor
    log_std: Tensor


class DiffusionHead(LatentHead):
    """Predicts the noise in a latent, or its velocity, and the variance of every step.

    Args:
        config: sizes.
        dim: D of the backbone.
        channels: C of a latent.
    """

    def __init__(self, config: DiffusionHeadConfig, *, dim: int, channels: int) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        self.schedule = cosine_schedule(config.num_timesteps)
        self.prediction = PREDICTIONS[config.prediction]
        self.embed = nn.Linear(channels, config.dim)
        self.condition = nn.Linear(dim, config.dim)
        self.time = TimestepEmbedding(config.dim)
        self.blocks = nn.ModuleList(DiffusionBlock(config.dim) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, elementwise_affine=False, eps=NORM_EPS)
        self.output_modulation = nn.Linear(config.dim, 2 * config.dim)
        self.output = nn.Linear(config.dim, 2 * channels)
        xavier_linears(self)
        zeroed = [self.output_modulation, self.output, *(module.modulation for module in self.modules() if isinstance(module, DiffusionBlock))]
        for linear in (self.time.fc1, self.time.fc2):
            nn.init.normal_(linear.weight, std=0.02)
        for linear in zeroed:
            nn.init.zeros_(linear.weight)

    def forward(self, x: Tensor, timesteps: Tensor, hidden: Tensor) -> Tensor:
        """What the configuration's `prediction` says of x, then where the variance of the step lies between its bounds.

        Args:
            x: (N, C) noisy latents.
            timesteps: (N,) int64 steps of training, or (1,) for all rows.
            hidden: (N, D) from the backbone.

        Returns:
            (N, 2 C) float32.
        """
        dtype = self.embed.weight.dtype
        condition = F.silu(self.time(timesteps) + self.condition(hidden.to(dtype)))
        x = self.embed(x.to(dtype))
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.output_modulation(condition).chunk(2, dim=-1)
        return self.output(self.norm(x) * (1 + scale) + shift).float()

    def loss(self, hidden: Tensor, latents: Tensor, held: Tensor, noise: Noise) -> Tensor:
        """Squared error of the prediction plus the variational bound of the variance, mean over the copies.

        Draws: uniform (B, copies, T) for the steps, then normal (B, copies, T, C).
        """
        samples, copies = len(latents), self.config.copies
        steps = integers(noise, len(self.schedule), samples, copies, latents.shape[1]).to(latents.device)
        draws = noise.normal(samples, copies, *latents.shape[1:]).to(latents.device)
        rows = held[:, None].expand(-1, copies, -1)
        hidden, latents = (part[:, None].expand(-1, copies, -1, -1)[rows] for part in (hidden, latents.float()))
        squared, bound = self.errors(hidden, latents, steps[rows], draws[rows])
        per_copy = hidden.new_zeros(rows.shape, dtype=torch.float32)
        per_copy[rows] = squared + bound
        return per_copy.mean(dim=1)[held]

    def errors(self, hidden: Tensor, latents: Tensor, steps: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of the loss, (N,) float32 each: the squared error, and the bound in bits per channel.

        Args:
            hidden: (N, D).
            latents: (N, C) float32.
            steps: (N,) int64.
            noise: (N, C) float32.
        """
        x = self.schedule.noisy(latents, noise, steps)
        predicted, share = self(x, steps, hidden).chunk(2, dim=-1)
        squared = (self.prediction.target(self.schedule, latents, noise, steps) - predicted).square().mean(dim=-1)
        denoised = self.prediction.denoised(self.schedule, x, predicted.detach(), steps)
        mean = self.schedule.posterior_mean(denoised, x, steps)
        log_variance = self.schedule.log_variance(share, steps)
        divergence = normal_divergence(
            self.schedule.posterior_mean(latents, x, steps), self.schedule.at("posterior_log_variance_clipped", steps), mean, log_variance
        )
        nll = binned_normal_nll(latents, mean, log_variance / 2)
        bound = torch.where(steps[:, None] == 0, nll, divergence).mean(dim=-1) / math.log(2)
        return squared, bound

    def sample(self, hidden: Tensor, unconditional: Tensor | None, noise: Noise, *, steps: int | str, guidance: float, temperature: float) -> Tensor:
        """Ancestral sampling, guided on the prediction; normal draws (B, M, C), one to start from and one for every step but the last.

        `steps` may be a respacing of ADM as well, such as "ddim50" or "10,10,20"; the temperature scales the noise of the steps only.
        """
        shape = (*hidden.shape[:2], self.channels)
        start = noise.normal(*shape).to(hidden.device)
        return self.denoise(
            hidden,
            unconditional,
            start,
            lambda _step: noise.normal(*shape).to(hidden.device),
            respacing=str(steps),
            guidance=guidance,
            temperature=temperature,
        ).values

    def num_steps(self, respacing: str) -> int:
        """Steps of a respacing.

        Raises:
            ConfigError: if it cannot be read or asks for more steps than there are.
        """
        return len(kept_steps(self.config.num_timesteps, respacing))

    def denoise(
        self,
        hidden: Tensor,
        unconditional: Tensor | None,
        start: Tensor,
        step_noise: Callable[[int], Tensor],
        *,
        respacing: str,
        guidance: float,
        temperature: float,
    ) -> DenoisedLatents:
        """Sample from given noise.

        Args:
            hidden: (B, M, D) with the condition.
            unconditional: without it; None where the scale is 1.
            start: (B, M, C) float32.
            step_noise: step i of the respaced schedule -> (B, M, C) float32; called from the last step down to 1.
            respacing: which steps; see `kept_steps`.
            guidance: scale s of `u + s * (c - u)` of the prediction, which is the same for the noise and v; the variance is that with the condition.
            temperature: scales the noise of the steps.
        """
        schedule = respaced_cosine_schedule(self.config.num_timesteps, respacing)
        shape = start.shape
        x, rows = start.flatten(0, 1), hidden.flatten(0, 1)
        if unconditional is not None:
            rows = torch.cat([rows, unconditional.flatten(0, 1)])
        log_std = torch.zeros_like(x)
        for step in reversed(range(len(schedule))):
            steps = torch.full((len(x),), step, dtype=torch.int64, device=x.device)
            timesteps = schedule.timesteps[step : step + 1].to(x.device)
            if unconditional is None:
                predicted, share = self(x, timesteps, rows).chunk(2, dim=-1)
            else:
                both, shares = self(torch.cat([x, x]), timesteps, rows).chunk(2, dim=-1)
                conditional, without = both.chunk(2)
                predicted, share = without + guidance * (conditional - without), shares[: len(x)]
            mean = schedule.posterior_mean(self.prediction.denoised(schedule, x, predicted, steps), x, steps)
            half_log_variance = schedule.log_variance(share, steps) / 2
            if step == 0:
                return DenoisedLatents(*(part.view(shape) for part in (mean, half_log_variance.exp() * temperature, log_std)))
            log_std += half_log_variance
            x = mean + half_log_variance.exp() * step_noise(step).flatten(0, 1) * temperature
        raise AssertionError("a schedule has at least one step")


class DiffusionBlock(Block):
    """A residual MLP whose norm and output the condition scales."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.modulation = nn.Linear(dim, 3 * dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, W) and the condition's SiLU (N, W) -> (N, W)."""
        shift, scale, gate = self.modulation(condition).chunk(3, dim=-1)
        return x + gate * self.mlp(self.norm(x) * (1 + scale) + shift)


def normal_divergence(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL divergence of two normal distributions in nats, of the first from the second, elementwise."""
    ratio = torch.exp(log_variance - other_log_variance)
    return 0.5 * (-1.0 + other_log_variance - log_variance + ratio + (mean - other_mean).square() * torch.exp(-other_log_variance))


def binned_normal_nll(values: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Minus the log-probability in nats of the bin around every value, elementwise; the outermost bins, beyond +-0.999, are open."""

    def cumulative(edges: Tensor) -> Tensor:
        x = (edges - mean) * torch.exp(-log_std)
        return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))

    below, above = cumulative(values - HALF_BIN), cumulative(values + HALF_BIN)
    inner = torch.where(values > 0.999, 1 - below, above - below)
    return -torch.where(values < -0.999, above, inner).clamp_min(1e-12).log()
