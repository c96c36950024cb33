"""The perceiver resampler (Flamingo, arXiv 2204.14198, as in IP-Adapter): learned latents that read a sequence by cross-attention, several times."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.layers.activations import gelu
from visiontok.layers.block import Block

MLP_RATIO = 4


class ResamplerConfig(Config):
    """Sizes.

    Attributes:
        dim: model dimension D.
        depth: layers.
        num_heads, head_dim: of the attention.
        num_latents: outputs N.
        output_dim: of an output.
    """

    dim: Positive = 1024
    depth: Positive = 6
    num_heads: Positive = 16
    head_dim: Positive = 64
    num_latents: Positive
    output_dim: Positive

    def build(self, input_dim: int) -> PerceiverResampler:
        """The network, for sequences of vectors of that size."""
        return PerceiverResampler(self, input_dim=input_dim)


class ResamplerLayer(Block):
    """`latents += attn(x, latents); latents += mlp(latents)`; latents read the sequence and each other, and the sequence stays as it is."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        dim, inner = config.dim, config.num_heads * config.head_dim
        self.head_dim = config.head_dim
        self.norm_input, self.norm_latents = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query = nn.Linear(dim, inner, bias=False)
        self.key_value = nn.Linear(dim, 2 * inner, bias=False)
        self.proj = nn.Linear(inner, dim, bias=False)
        self.norm_mlp = nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, MLP_RATIO * dim, bias=False), nn.Linear(MLP_RATIO * dim, dim, bias=False)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """(B, L, D) and (B, N, D) -> (B, N, D)."""
        own = self.norm_latents(latents)
        read = torch.cat([self.norm_input(x), own], dim=1)
        query = self.query(own).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        key, value = self.key_value(read).unflatten(-1, (2, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        latents = latents + self.proj(attended.transpose(1, 2).flatten(2))
        return latents + self.mlp(latents)

    def mlp(self, latents: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        result: Tensor = self.fc2(gelu(self.fc1(self.norm_mlp(latents))))
        return result


class PerceiverResampler(nn.Module):
    """A sequence of any length to N normalized vectors.

    Args:
        config: sizes.
        input_dim: C of the sequence.
    """

    def __init__(self, config: ResamplerConfig, *, input_dim: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(config.num_latents, config.dim) * config.dim**-0.5)
        self.proj_in = nn.Linear(input_dim, config.dim)
        self.layers = nn.ModuleList(ResamplerLayer(config) for _ in range(config.depth))
        self.proj_out = nn.Linear(config.dim, config.output_dim)
        self.norm = nn.LayerNorm(config.output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) -> (B, N, output_dim)."""
        x, latents = self.proj_in(x), self.latents.expand(len(x), -1, -1)
        for layer in self.layers:
            latents = layer(x, latents)
        result: Tensor = self.norm(self.proj_out(latents))
        return result
