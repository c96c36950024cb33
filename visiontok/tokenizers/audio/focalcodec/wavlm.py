"""The first layers of WavLM (Chen et al. 2021, arXiv 2110.13900), also causal: attention with gated biases by distance."""

from __future__ import annotations

import math

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.layers.carry import Carry, preceded
from visiontok.layers.transformer import Mlp


class WavLmConfig(Config):
    """The defaults are 6 layers of WavLM-large.

    Attributes:
        conv_dims, conv_kernels, conv_strides: of the convolutions over the sound.
        dim, mlp_dim, depth, num_heads: of the transformer.
        num_buckets: of distances, half of them for each direction.
        max_distance: from which on all distances share a bucket.
        position_kernel, position_groups: of the convolution that is added as the positional embedding.
        causal: whether nothing reads beyond its chunk of 1 + lookahead frames.
        window: frames up to the end of a chunk that are attended to, in a causal network.
        lookahead: frames of a chunk beyond the first.
    """

    conv_dims: tuple[Positive, ...] = (512,) * 7
    conv_kernels: tuple[Positive, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_strides: tuple[Positive, ...] = (5, 2, 2, 2, 2, 2, 2)
    dim: Positive = 1024
    mlp_dim: Positive = 4096
    depth: Positive = 6
    num_heads: Positive = 16
    num_buckets: int = Field(default=320, ge=4, multiple_of=4)
    max_distance: Positive = 800
    position_kernel: Positive = 128
    position_groups: Positive = 16
    causal: bool = False
    window: Positive = 512
    lookahead: int = Field(default=3, ge=0)

    @model_validator(mode="after")
    def _check(self) -> WavLmConfig:
        if not len(self.conv_dims) == len(self.conv_kernels) == len(self.conv_strides):
            raise ValueError(f"conv_dims {self.conv_dims}, conv_kernels {self.conv_kernels} and conv_strides {self.conv_strides} differ in length")
        if self.dim % self.num_heads or self.dim % self.position_groups:
            raise ValueError(f"num_heads {self.num_heads} and position_groups {self.position_groups} must divide dim {self.dim}")
        return self

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.conv_strides)


class WavLm(nn.Module):
    """Sound (B, T) -> features (B, frames, dim): the residual stream after the last layer, without a norm."""

    def __init__(self, config: WavLmConfig) -> None:
        super().__init__()
        self.feature_extractor = FeatureExtractor(config)
        self.norm = nn.LayerNorm(config.conv_dims[-1])
        self.feature_proj = nn.Linear(config.conv_dims[-1], config.dim)
        self.encoder = TransformerEncoder(config)

    def forward(self, signal: Tensor, carry: Carry | None = None) -> Tensor:
        features: Tensor = self.encoder(self.feature_proj(self.norm(self.feature_extractor(signal, carry))), carry)
        return features


class FeatureExtractor(nn.Module):
    """Sound (B, T) -> (B, frames, C): as many frames as whole kernels fit, at least one; ceil(T / hop) in a causal network."""

    def __init__(self, config: WavLmConfig) -> None:
        super().__init__()
        ins = (1, *config.conv_dims[:-1])
        sizes = zip(ins, config.conv_dims, config.conv_kernels, config.conv_strides, strict=True)
        self.layers = nn.ModuleList(StridedConv(*size, causal=config.causal) for size in sizes)

    def forward(self, signal: Tensor, carry: Carry | None = None) -> Tensor:
        x = signal[:, None]
        for layer in self.layers:
            x = layer(x, carry)
        return x.transpose(1, 2)


class StridedConv(nn.Module):
    """Convolution, norm over the channels, GELU; (B, C, T) -> (B, C', T')."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, *, causal: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel, stride=stride, bias=False)
        self.norm = nn.LayerNorm(out_channels)
        self.kernel, self.causal = kernel, causal

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        right = (0, max(self.kernel - x.shape[-1], 0))
        x = preceded(x, self.kernel - 1, "replicate", layer=self, carry=carry) if self.causal else F.pad(x, right)
        return F.gelu(self.norm(self.conv(x).transpose(1, 2))).transpose(1, 2)


class TransformerEncoder(nn.Module):
    """(B, L, D) -> (B, L, D), with a convolution as positional embedding and biases by distance that all layers share."""

    def __init__(self, config: WavLmConfig) -> None:
        super().__init__()
        self.config = config
        self.positional_embedding = PositionalConv(config)
        self.relative_embedding = nn.Embedding(config.num_buckets, config.num_heads)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.depth))

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        x = x + self.positional_embedding(x, carry)
        frames, kept = x.shape[1], 0 if carry is None else carry.get(self) or 0
        places = torch.arange(-kept, frames, dtype=torch.int64, device=x.device)
        bias = self.relative_embedding(self.buckets(places - places[kept:, None])).permute(2, 0, 1)
        mask = self.visible(frames, kept, x.device)
        keep = min(kept + frames, self.config.window - 1)  # so many are seen by the first frame of an incomplete last chunk
        for layer in self.layers:
            x = layer(x, bias, mask, carry, keep)
        if carry is not None:
            carry.keep(self, keep)
        return x

    def buckets(self, distance: Tensor) -> Tensor:
        """How far a key is behind its query, any shape -> the row of the table: exact for small distances, logarithmic for large ones."""
        half = self.config.num_buckets // 2
        exact = half // 2
        near = distance.abs()
        far = exact + (near.clamp_min(1).float() / exact).log() / math.log(self.config.max_distance / exact) * (half - exact)
        return half * (distance > 0) + torch.where(near < exact, near, far.long().clamp_max(half - 1))

    def visible(self, frames: int, kept: int, device: torch.device) -> Tensor | None:
        """(L, kept + L) bool, which keys, also of `kept` frames before, a query sees; None for all."""
        chunk = 1 + self.config.lookahead
        if not self.config.causal or kept + frames <= chunk:
            return None
        places = torch.arange(-kept, frames, dtype=torch.int64, device=device)
        end = ((places[kept:] // chunk + 1) * chunk).clamp_max(frames)[:, None]
        return (places < end) & (places >= end - self.config.window)


class PositionalConv(nn.Module):
    """A grouped convolution over many frames and a GELU; an even kernel reads one frame more on the left."""

    def __init__(self, config: WavLmConfig) -> None:
        super().__init__()
        kernel = config.position_kernel
        self.conv = nn.Conv1d(config.dim, config.dim, kernel, groups=config.position_groups)
        self.causal, self.kernel = config.causal, kernel

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        rows = x.transpose(1, 2)
        if self.causal:
            padded = preceded(rows, self.kernel - 1, "replicate", layer=self, carry=carry)
        else:
            padded = F.pad(rows, (self.kernel // 2, (self.kernel - 1) // 2))
        return F.gelu(self.conv(padded)).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Attention and a feed-forward network, each after a norm and added."""

    def __init__(self, config: WavLmConfig) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.attention = GatedAttention(config.dim, config.num_heads)
        self.feed_forward = Mlp(config.dim, config.mlp_dim)

    def forward(self, x: Tensor, bias: Tensor, mask: Tensor | None, carry: Carry | None, keep: int) -> Tensor:
        """(B, L, D), bias (H, L, L'), mask (L, L') -> (B, L, D); see `GatedAttention`."""
        x = x + self.attention(self.attention_norm(x), bias, mask, carry, keep)
        result: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return result


class GatedAttention(nn.Module):
    """Attention whose biases by distance are scaled by gates of the query (Chi et al. 2021, arXiv 2106.16138)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv_proj, self.out_proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.gru_rel_pos_linear = nn.Linear(dim // num_heads, 8)
        self.gru_rel_pos_const = nn.Parameter(torch.ones(1, num_heads, 1, 1))

    def forward(self, x: Tensor, bias: Tensor, mask: Tensor | None, carry: Carry | None, keep: int) -> Tensor:
        """(B, L, D), bias (H, L, L'), mask (L, L') -> (B, L, D), where L' counts the frames before that were kept; `keep` are for the next chunk."""
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.qkv_proj(x).chunk(3, dim=-1))
        if carry is not None:
            k, v = (torch.cat(pair, dim=2) for pair in zip(carry.get(self) or (k[:, :, :0], v[:, :, :0]), (k, v), strict=True))
            carry.keep(self, tuple(part[:, :, part.shape[2] - keep :] for part in (k, v)))
        heads = x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        update, reset = self.gru_rel_pos_linear(heads).unflatten(-1, (2, 4)).sum(dim=-1).sigmoid().chunk(2, dim=-1)
        scores = (update * (reset * self.gru_rel_pos_const - 1) + 2) * bias
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        attended: Tensor = self.out_proj(F.scaled_dot_product_attention(q, k, v, attn_mask=scores).transpose(1, 2).flatten(2))
        return attended
