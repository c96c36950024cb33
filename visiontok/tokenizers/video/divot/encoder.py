"""Divot's encoder behind CLIP: attention over time at every place, then over all places and times, then 64 latents that read the result."""

from __future__ import annotations

import torch
from pydantic import model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.layers.activations import quick_gelu
from visiontok.layers.transformer import TransformerBlock
from visiontok.tokenizers.video.divot.resampler import ResamplerConfig

EPS = 1e-6
"""Of the layer norms, except those of the resampler and the one before it."""
MLP_RATIO = 4


class EncoderConfig(Config):
    """Sizes; the defaults are the published ones.

    Attributes:
        num_frames: F frames that are looked at; the tables of positions hold so many.
        dim: model dimension D of the attention over places and times, and of the resampler.
        temporal_dim, temporal_depth, temporal_heads: of the attention over time.
        pool_size: side of the grid that the features of a frame are averaged to.
        has_norm: whether the averages are normalized.
        depth, num_heads: of the attention over places and times.
        resampler: of its output.
    """

    num_frames: Positive = 5
    dim: Positive = 1024
    temporal_dim: Positive = 768
    temporal_depth: Positive = 6
    temporal_heads: Positive = 12
    pool_size: Positive = 5
    has_norm: bool = True
    depth: Positive = 4
    num_heads: Positive = 8
    resampler: ResamplerConfig = ResamplerConfig(num_latents=64, output_dim=256)

    @model_validator(mode="after")
    def _check(self) -> EncoderConfig:
        for name, dim, heads in (("temporal_", self.temporal_dim, self.temporal_heads), ("", self.dim, self.num_heads)):
            if dim % heads:
                raise ValueError(f"{heads} {name or 'num_'}heads do not divide {name}dim {dim}")
        if self.resampler.dim != self.dim:
            raise ValueError(f"the resampler has dim {self.resampler.dim}, but the sequence that it reads {self.dim}")
        return self


class TemporalTransformer(nn.Module):
    """Attention over the frames at every place.

    Args:
        config: sizes.
        feature_dim: C of the features.
    """

    def __init__(self, config: EncoderConfig, *, feature_dim: int) -> None:
        super().__init__()
        dim = config.temporal_dim
        self.proj_in = nn.Linear(feature_dim, dim)
        self.positions = nn.Parameter(torch.randn(config.num_frames, dim) * 0.01)
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(dim, config.temporal_heads, mlp_dim=MLP_RATIO * dim, eps=EPS, activation=quick_gelu)
                for _ in range(config.temporal_depth)
            )
        )
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.proj_out = nn.Linear(dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(S, F, C) -> (S, F, D)."""
        result: Tensor = self.proj_out(self.norm(self.blocks(self.proj_in(x) + self.positions)))
        return result


class SpaceTimeTransformer(nn.Module):
    """Attention over all places and times, with one learned row for each time and one for each place."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        dim = config.dim
        self.times = nn.Parameter(torch.randn(config.num_frames, dim) * dim**-0.5)
        self.places = nn.Parameter(torch.randn(config.pool_size**2, dim) * dim**-0.5)
        self.blocks = nn.Sequential(*(TransformerBlock(dim, config.num_heads, mlp_dim=MLP_RATIO * dim, eps=EPS) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F P, D), frame by frame -> (B, F P, D)."""
        positions = (self.times[:, None] + self.places).flatten(0, 1)
        result: Tensor = self.norm(self.blocks(x + positions))
        return result


class FeatureEncoder(nn.Module):
    """From the features of F frames to the tokens of a clip.

    Args:
        config: sizes.
        feature_dim: C of the features.
    """

    def __init__(self, config: EncoderConfig, *, feature_dim: int) -> None:
        super().__init__()
        self.temporal = TemporalTransformer(config, feature_dim=feature_dim)
        self.pool = nn.AdaptiveAvgPool2d(config.pool_size)
        self.norm = nn.LayerNorm(config.dim, eps=EPS) if config.has_norm else nn.Identity()
        self.spacetime = SpaceTimeTransformer(config)
        self.resampler = config.resampler.build(config.dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, F, h, w, C) -> (B, N, output_dim of the resampler)."""
        samples, frames, height, width, _ = features.shape
        mixed = self.temporal(features.permute(0, 2, 3, 1, 4).flatten(0, 2))
        maps = mixed.unflatten(0, (samples, height, width)).permute(0, 3, 4, 1, 2).flatten(0, 1)  # (B F, D, h, w)
        pooled = self.pool(maps).flatten(2).transpose(1, 2).unflatten(0, (samples, frames))
        result: Tensor = self.resampler(self.spacetime(self.norm(pooled.flatten(1, 2))))
        return result
