"""A continuous latent per position, by a small rectified flow that the backbone conditions, as MAR does by diffusion (arXiv 2406.11838)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.base.noise import Noise
from visiontok.decoders.flow.sampling import euler
from visiontok.decoders.flow.training import FlowTimes, ModeTimes, flow_loss, mix
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


class FlowHead(nn.Module):
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

    def loss(self, hidden: Tensor, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """(N,) float32: mean square of the velocity's error.

        Args:
            hidden: (N, D).
            latents: (N, C).
            noise: (N, C) normal.
            times: (N,) in [0, 1].
        """
        return flow_loss(self(mix(latents, noise, times), times, hidden), latents, noise)

    def sample(self, hidden: Tensor, unconditional: Tensor | None, noise: Noise, *, steps: int, guidance: float, temperature: float) -> Tensor:
        """Latents (B, C) from (B, D); one normal draw (B, C).

        Args:
            hidden: with the condition.
            unconditional: without it, for a guidance scale other than 1.
            noise: source of the draw.
            steps: of the flow.
            guidance: scale s of `u + s * (c - u)`, on velocities.
            temperature: deviation of the noise.
        """
        start = noise.normal(len(hidden), self.channels).to(hidden) * temperature
        if unconditional is None:
            return euler(partial(self, hidden=hidden), start, steps=steps)

        def guided(x: Tensor, time: Tensor) -> Tensor:
            without = self(x, time, unconditional)
            return without + guidance * (self(x, time, hidden) - without)

        return euler(guided, start, steps=steps)


class FlowBlock(nn.Module):
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
