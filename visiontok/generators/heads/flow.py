"""A continuous latent per position, by a small rectified flow that the backbone conditions, as MAR does by diffusion (arXiv 2406.11838)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.base.noise import Noise
from visiontok.decoders.flow.sampling import euler
from visiontok.decoders.flow.training import FlowTimes, ModeTimes, flow_loss, mix
from visiontok.generators.heads.base import LatentHead
from visiontok.layers.block import Block
from visiontok.layers.timesteps import TimestepEmbedding


class FlowHeadConfig(Config):
    """Sizes of the head.

    Attributes:
        dim: of its hidden layers.
        depth: number of its blocks.
        times: at which times of the flow it is trained.
    """

    dim: Positive = 256
    depth: Positive = 3
    times: FlowTimes = ModeTimes(mode_scale=0.0)


class FlowHead(LatentHead):
    """Velocity of a latent on its way from noise.

    Args:
        config: sizes.
        dim: D of the backbone.
        channels: C of a latent.
    """

    def __init__(self, config: FlowHeadConfig, *, dim: int, channels: int) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        self.embed = nn.Linear(channels, config.dim)
        self.condition = nn.Linear(dim, config.dim)
        self.time = TimestepEmbedding(config.dim)
        self.blocks = nn.ModuleList(FlowBlock(config.dim) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, elementwise_affine=False)
        self.output = nn.Linear(config.dim, channels)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor, time: Tensor, hidden: Tensor) -> Tensor:
        """Noisy latents (N, C) at `time` (N,) or (1,), conditioned on (N, D) -> velocity (N, C)."""
        condition = self.condition(hidden) + self.time(time.to(hidden.dtype))
        x = self.embed(x.to(hidden.dtype))
        for block in self.blocks:
            x = block(x, condition)
        return self.output(self.norm(x))

    def loss(self, hidden: Tensor, latents: Tensor, held: Tensor, noise: Noise) -> Tensor:
        """Mean squares of the velocity's error; draws the times (B,) of the flow, then normal noise (B, T, C)."""
        # One time per sample and step, spread over the sequence from the sample's draw, so that a batch needs no more draws than samples.
        steps = torch.arange(latents.shape[1], device=latents.device) / latents.shape[1]
        times = ((self.config.times.draw(len(latents), noise).to(latents.device)[:, None] + steps) % 1)[held]
        start, latents = noise.normal(*latents.shape).to(latents)[held], latents[held]
        return flow_loss(self(mix(latents, start, times), times, hidden[held]), latents, start)

    def sample(self, hidden: Tensor, unconditional: Tensor | None, noise: Noise, *, steps: int, guidance: float, temperature: float) -> Tensor:
        """Euler steps of the flow, guided on velocities; one normal draw (B, M, C), whose deviation is the temperature."""
        shape = (*hidden.shape[:2], self.channels)
        start = noise.normal(*shape).to(hidden).flatten(0, 1) * temperature
        hidden = hidden.flatten(0, 1)
        if unconditional is None:
            return euler(partial(self, hidden=hidden), start, steps=steps).view(shape)
        without_condition = unconditional.flatten(0, 1)

        def guided(x: Tensor, time: Tensor) -> Tensor:
            without = self(x, time, without_condition)
            return without + guidance * (self(x, time, hidden) - without)

        return euler(guided, start, steps=steps).view(shape)


class FlowBlock(Block):
    """A residual MLP whose norm and output the condition scales."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulation = nn.Linear(dim, 3 * dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, W) and (N, W) -> (N, W)."""
        shift, scale, gate = self.modulation(F.silu(condition)).chunk(3, dim=-1)
        return x + gate * self.mlp(self.norm(x) * (1 + scale) + shift)
