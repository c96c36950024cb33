"""A transformer that turns noise into a grid of features, conditioned on a prefix of registers (FlexTok, Bachmann et al. 2025, section 3.1).

Registers beyond the prefix are all replaced by one learned vector, without a position. Equal tokens stay equal through a transformer that sees
them as a set, so one of them here represents all: attention counts it as often as it occurs, by adding the logarithm of that number to its
products. The result is the same; a prefix of 16 out of 256 costs 17 tokens instead of 256, and "no condition" costs one.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from visiontok.base.noise import Noise
from visiontok.decoders.flow.decoder import FlowDecoder
from visiontok.decoders.flow.sampling import FlowSampling, Velocity
from visiontok.decoders.flow.training import TimeSchedule
from visiontok.layers.modulation import Modulation, modulate
from visiontok.layers.nested_dropout import LengthSchedule, prefix_mask
from visiontok.layers.patches import patchify, sincos_positions, unpatchify
from visiontok.layers.timesteps import TimestepEmbedding
from visiontok.layers.vit import token_table
from visiontok.tokenizers.image.flextok.trunk import RegisterTrunkConfig, init_register_weights


class FlowCondition(NamedTuple):
    """The condition that the registers make; the same at every step.

    Attributes:
        registers: (B, R, D): kept ones, then the one that represents all others, where a sample has others.
        mask: (B, 1, 1, n + R): added to the attention's products, which counts the last register as often as it occurs and masks what a
            sample of the batch does not keep. None where every register is kept.
    """

    registers: Tensor
    mask: Tensor | None


class RegisterFlowDecoder(FlowDecoder):
    """The sequence [noisy patches | registers] through a transformer modulated by the time; the patches' outputs become the velocity.

    Args:
        config: sizes.
        channels: of the grid.
        grid_size: side of the square grid.
        patch_size: side of a patch on it.
        num_registers: N, the longest prefix.
        latent_dim: channels of a latent.
        time_features: cosines and sines of the time.
        time_scale: see `TimestepEmbedding`.
        nested_dropout: how many registers a training step shows.
        sampling, flow_times, null_probability: see `FlowDecoder`.
    """

    patch_positions: Tensor

    def __init__(
        self,
        config: RegisterTrunkConfig,
        *,
        channels: int,
        grid_size: int,
        patch_size: int,
        num_registers: int,
        latent_dim: int,
        time_features: int,
        time_scale: float,
        nested_dropout: LengthSchedule,
        sampling: FlowSampling,
        flow_times: TimeSchedule,
        null_probability: float,
    ) -> None:
        super().__init__(sampling=sampling, flow_times=flow_times, null_probability=null_probability)
        self.nested_dropout = nested_dropout
        dim, self.side, self.patch_size, self.num_registers = config.dim, grid_size // patch_size, patch_size, num_registers
        self.from_latents = nn.Linear(latent_dim, dim)
        self.register_positions = token_table(num_registers, dim)
        self.mask_token = token_table(1, dim)
        self.null_token = token_table(1, dim)
        self.patch_embed = nn.Linear(channels * patch_size**2, dim)
        self.register_buffer("patch_positions", sincos_positions(self.side, self.side, dim))
        self.time_embed = TimestepEmbedding(dim, features=time_features, period=256.0, time_scale=time_scale)
        self.blocks = config.blocks(kinds=2)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulation = Modulation(dim, parts=2)
        self.head = nn.Linear(dim, channels * patch_size**2)
        self._init_weights()

    def condition(self, codes: Tensor, lengths: Tensor, *, dropped: Tensor | None = None) -> FlowCondition:
        """The condition of codes (B, L <= N, latent_dim), of which each sample keeps its first `lengths` (B,).

        Args:
            codes: those beyond a sample's length are not read.
            lengths: 0 to L.
            dropped: (B,) bool, samples without a condition; None for none.
        """
        is_dropped = torch.zeros_like(lengths, dtype=torch.bool) if dropped is None else dropped
        lengths = lengths.masked_fill(is_dropped, 0)
        longest = int(lengths.max())
        kept = self.from_latents(codes[:, :longest]) + self.register_positions[:longest]
        if not self.training and bool((lengths == self.num_registers).all()):
            return FlowCondition(kept, None)
        others = torch.where(is_dropped[:, None, None], self.null_token, self.mask_token)
        count = torch.ones(len(codes), self.side**2 + longest + 1, dtype=torch.float32, device=codes.device)
        count[:, self.side**2 : -1] = prefix_mask(lengths, longest)
        count[:, -1] = self.num_registers - lengths
        return FlowCondition(torch.cat([kept, others], dim=1), count.log()[:, None, None].to(kept.dtype))

    def forward(self, noisy: Tensor, times: Tensor, condition: FlowCondition) -> Tensor:
        """The velocity (B, H, W, C) of samples (B, H, W, C) at times (B,), or (1,) for all of them."""
        patches = self.patch_embed(patchify(noisy, self.patch_size)) + self.patch_positions
        x = torch.cat([patches, condition.registers.to(patches.dtype)], dim=1)
        counts = (patches.shape[1], condition.registers.shape[1])
        time = self.time_embed(times)
        for block in self.blocks[:-1]:
            x = block(x, mask=condition.mask, condition=time, counts=counts)
        x = self.blocks[-1](x, mask=condition.mask, condition=time, counts=counts, kept=slice(patches.shape[1]))
        shift, scale = self.modulation(time)
        out = self.head(modulate(self.norm(x), shift, scale))
        return unpatchify(out.unflatten(1, (self.side, self.side)), self.patch_size)

    def velocity(self, codes: Tensor, lengths: Tensor) -> Velocity:
        return partial(self.forward, condition=self.condition(codes, lengths))

    def unconditional_velocity(self, codes: Tensor) -> Velocity:
        lengths = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
        return partial(self.forward, condition=self.condition(codes, lengths, dropped=torch.ones_like(lengths, dtype=torch.bool)))

    def training_velocity(self, noisy: Tensor, times: Tensor, codes: Tensor, noise: Noise) -> Tensor:
        """Draws the lengths, then uniform (B,) for the samples without codes."""
        lengths = self.nested_dropout.draw(len(codes), codes.shape[1], device=codes.device, noise=noise)
        dropped = noise.uniform(len(codes)) < self.null_probability
        return self(noisy, times, self.condition(codes, lengths, dropped=dropped))

    def _init_weights(self) -> None:
        """As published: a Xavier trunk, and a head and modulations that start at zero."""
        self.apply(init_register_weights)
        nn.init.zeros_(self.head.weight)
        for module in self.modules():
            if isinstance(module, Modulation):
                module.start_at_zero()
