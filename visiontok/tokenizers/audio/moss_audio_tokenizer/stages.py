"""The stages of MOSS-Audio-Tokenizer: patches that trade time for channels, and causal transformers; there is no convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.layers.carry import Carry, CarryingLayer, CarryingSequence
from visiontok.layers.causal_transformer import CausalTransformer, ScaledBlock, WindowAttention, positions
from visiontok.layers.norms import RMSNorm

Norm = Literal["layer_norm", "rms_norm", "rms_norm_f32"]
Gating = Literal["none", "silu", "gelu", "relu", "sigmoid", "tanh"]

NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "layer_norm": nn.LayerNorm,
    "rms_norm": lambda dim: RMSNorm(dim, eps=1e-5),
    "rms_norm_f32": lambda dim: RMSNorm(dim, eps=1e-8),
}


class PatchConfig(Config):
    """Frames that become one, in an encoder, or samples that one frame becomes, in a decoder."""

    type: Literal["patch"] = "patch"
    size: Positive


class TransformerConfig(Config):
    """A transformer between two linear layers, of which each is left out where it would keep the number of channels.

    Attributes:
        in_dim, out_dim: channels that it reads and gives.
        dim, depth, num_heads, mlp_dim: of the transformer.
        norm: of its branches.
        gating: "none" for two linear layers with a GELU; else the activation of the gate of gated linear units (arXiv 2002.05202).
        positions: "rope" for rotations of queries and keys, "sin" for sinusoids that are added to the input, "sin_rope" for both.
        base: of the positions.
        layer_scale: of every channel at first; None for no scales.
    """

    type: Literal["transformer"] = "transformer"
    in_dim: Positive
    out_dim: Positive
    dim: Positive
    depth: Positive
    num_heads: Positive
    mlp_dim: Positive
    norm: Norm = "layer_norm"
    gating: Gating = "none"
    positions: Literal["rope", "sin", "sin_rope"] = "rope"
    base: float = Field(default=10000.0, gt=0)
    layer_scale: float | None = 0.01

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        if self.dim % (2 * self.num_heads):
            raise ValueError(f"dim {self.dim} must be an even multiple of num_heads {self.num_heads}")
        return self

    @property
    def gated_dim(self) -> int:
        """Between the matrices of gated linear units: about two thirds of `mlp_dim`, so that there are as many parameters."""
        return 21 * self.dim // 8 if self.mlp_dim == 4 * self.dim else 2 * self.mlp_dim // 3


StageConfig = Annotated[PatchConfig | TransformerConfig, Field(discriminator="type")]


class Patches(nn.Module):
    """(B, L, C) -> (B, L / size, C * size): the frames of a patch beside each other, innermost."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, self.size)).transpose(2, 3).flatten(2)


class Unpatches(nn.Module):
    """The inverse of `Patches`: (B, L, C * size) -> (B, L * size, C)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (-1, self.size)).transpose(2, 3).flatten(1, 2)


class Sinusoids(CarryingLayer):
    """Adds cosines, then sines, of positions (Vaswani et al. 2017, arXiv 1706.03762); (B, L, D) -> (B, L, D)."""

    def __init__(self, base: float) -> None:
        super().__init__()
        self.base = base

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        half = x.shape[-1] // 2
        exponents = torch.arange(half, dtype=torch.float32, device=x.device) / max(half - 1, 1)
        angles = positions(x.shape[1], layer=self, carry=carry).to(x.device, torch.float32)[:, None] / self.base**exponents
        return x + torch.cat([angles.cos(), angles.sin()], dim=-1).to(x.dtype)


class GatedUnits(nn.Module):
    """A linear layer of the product of an activated gate and a value, which one linear layer gives; without biases."""

    def __init__(self, dim: int, hidden_dim: int, gating: Gating) -> None:
        super().__init__()
        self.linear_in, self.linear_out = nn.Linear(dim, 2 * hidden_dim, bias=False), nn.Linear(hidden_dim, dim, bias=False)
        self.activation: Callable[[Tensor], Tensor] = getattr(F, gating)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        gate, value = self.linear_in(x).chunk(2, dim=-1)
        gated: Tensor = self.linear_out(self.activation(gate) * value)
        return gated


def transformer(config: TransformerConfig, *, window: int) -> CarryingSequence:
    """(B, L, in_dim) -> (B, L, out_dim); a frame sees `window` frames, its own included. The parts are named, since some may be absent."""
    dim, layers = config.dim, CarryingSequence()
    if config.in_dim != dim:
        layers.add_module("input_proj", nn.Linear(config.in_dim, dim, bias=False))
    if config.positions != "rope":
        layers.add_module("positions", Sinusoids(config.base))
    blocks = [
        ScaledBlock(
            dim,
            attn=WindowAttention(dim, config.num_heads, window=window, num_kv_heads=config.num_heads, head_dim=dim // config.num_heads),
            norms=[NORMS[config.norm](dim) for _ in range(2)],
            mlp=_feed_forward(config),
            layer_scale=config.layer_scale,
        )
        for _ in range(config.depth)
    ]
    layers.add_module("transformer", CausalTransformer(blocks, rope_base=None if config.positions == "sin" else config.base))
    if config.out_dim != dim:
        layers.add_module("output_proj", nn.Linear(dim, config.out_dim, bias=False))
    return layers


def _feed_forward(config: TransformerConfig) -> nn.Module:
    if config.gating != "none":
        return GatedUnits(config.dim, config.gated_dim, config.gating)
    return nn.Sequential(nn.Linear(config.dim, config.mlp_dim, bias=False), nn.GELU(), nn.Linear(config.mlp_dim, config.dim, bias=False))
