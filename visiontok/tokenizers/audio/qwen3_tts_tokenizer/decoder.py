"""The decoder of Qwen3-TTS-Tokenizer: a transformer at the frame rate, ConvNeXt blocks, and causal convolutions to samples."""

from __future__ import annotations

import math

from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.layers.carry import Carry, CarryingSequence
from visiontok.layers.causal_transformer import CausalTransformer, ScaledBlock, WindowAttention
from visiontok.layers.convnext import ConvNeXtBlock
from visiontok.layers.frame_conv import CausalConvTranspose1d, FrameConv
from visiontok.layers.llama import SwiGLU
from visiontok.layers.norms import RMSNorm
from visiontok.layers.residual import Residual
from visiontok.layers.snake import SnakeBeta

DILATIONS = (1, 3, 9)
"""Of a stage's residual units."""


class TransformerConfig(Config):
    """Sizes of the transformer; heads may be wider than `dim / num_heads`.

    Attributes:
        dim, depth, mlp_dim: model dimension, blocks, and the dim between the matrices of their feed-forward part.
        num_heads, num_kv_heads, head_dim: of the attention.
        window: frames that a frame sees, its own included.
        norm_eps: of all norms.
        rope_base: of the rotary positions.
        layer_scale: of every channel at first.
    """

    dim: Positive = 512
    depth: Positive = 8
    mlp_dim: Positive = 1024
    num_heads: Positive = 16
    num_kv_heads: Positive = 16
    head_dim: int = Field(default=64, gt=0, multiple_of=2)
    window: Positive = 72
    norm_eps: float = Field(default=1e-5, gt=0)
    rope_base: float = Field(default=10000.0, gt=0)
    layer_scale: float = 0.01

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads {self.num_kv_heads} must divide num_heads {self.num_heads}")
        return self


class DecoderConfig(Config):
    """Sizes of the decoder.

    Attributes:
        code_dim: D of the codes that it reads; codebooks have half of it.
        latent_dim: channels around the transformer.
        transformer: at the frame rate.
        upsampling: strides of the stages with ConvNeXt blocks.
        width: channels of the first stage of `strides`; each halves them.
        strides: of the stages to samples.
    """

    code_dim: int = Field(default=512, gt=0, multiple_of=2)
    latent_dim: Positive = 1024
    transformer: TransformerConfig = TransformerConfig()
    upsampling: tuple[Positive, ...] = (2, 2)
    width: Positive = 1536
    strides: tuple[Positive, ...] = (8, 5, 4, 3)

    @model_validator(mode="after")
    def _check(self) -> DecoderConfig:
        if self.width % 2 ** len(self.strides):
            raise ValueError(f"width {self.width} cannot be halved {len(self.strides)} times")
        return self

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.upsampling) * math.prod(self.strides)


class Qwen3TtsDecoder(nn.Module):
    """Codes (B, D, frames) -> sound (B, 1, frames * hop), not clamped; nothing reads later frames."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        latent, width = config.latent_dim, config.width
        self.embed = FrameConv(config.code_dim, latent, 3, causal=True, edge="constant")
        self.transformer = _transformer(config.transformer, latent)
        self.upsample = CarryingSequence(
            *(
                CarryingSequence(
                    nn.ConvTranspose1d(latent, latent, stride, stride=stride),
                    ConvNeXtBlock(latent, 4 * latent, scale=1e-6, causal=True),
                )
                for stride in config.upsampling
            )
        )
        last = width // 2 ** len(config.strides)
        self.waveform = CarryingSequence(
            FrameConv(latent, width, 7, causal=True, edge="constant"),
            *(_stage(width // 2**number, stride) for number, stride in enumerate(config.strides)),
            SnakeBeta(last),
            FrameConv(last, 1, 7, causal=True, edge="constant"),
        )

    def forward(self, codes: Tensor, carry: Carry | None = None) -> Tensor:
        hidden = self.transformer(self.embed(codes, carry).transpose(1, 2), carry).transpose(1, 2)
        sound: Tensor = self.waveform(self.upsample(hidden, carry), carry)
        return sound


def _transformer(config: TransformerConfig, latent_dim: int) -> CarryingSequence:
    """(B, L, latent_dim) -> (B, L, latent_dim)."""
    blocks = [
        ScaledBlock(
            config.dim,
            attn=WindowAttention(config.dim, config.num_heads, window=config.window, num_kv_heads=config.num_kv_heads, head_dim=config.head_dim),
            norms=[RMSNorm(config.dim, eps=config.norm_eps) for _ in range(2)],
            mlp=SwiGLU(config.dim, config.mlp_dim, dropout=0.0),
            layer_scale=config.layer_scale,
        )
        for _ in range(config.depth)
    ]
    return CarryingSequence(
        nn.Linear(latent_dim, config.dim),
        CausalTransformer(blocks, rope_base=config.rope_base),
        RMSNorm(config.dim, eps=config.norm_eps),
        nn.Linear(config.dim, latent_dim),
    )


def _stage(channels: int, stride: int) -> CarryingSequence:
    """(B, C, T) -> (B, C / 2, T * stride)."""
    half = channels // 2
    units = (
        Residual(
            SnakeBeta(half),
            FrameConv(half, half, 7, causal=True, edge="constant", dilation=dilation),
            SnakeBeta(half),
            nn.Conv1d(half, half, 1),
        )
        for dilation in DILATIONS
    )
    return CarryingSequence(SnakeBeta(channels), CausalConvTranspose1d(channels, half, 2 * stride, stride=stride), *units)
