"""A transformer of two streams: a narrow one of image patches and a wide one of queries that read it (Selftok, arXiv 2505.07538)."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.layers.activations import gelu_tanh
from visiontok.layers.attention import SelfAttention
from visiontok.layers.modulation import modulate
from visiontok.layers.patches import patchify, sincos_positions
from visiontok.layers.transformer import Mlp
from visiontok.tokenizers.image.selftok.position_modulation import PositionModulation


class DualStreamConfig(Config):
    """Sizes of both streams.

    Attributes:
        depth: number of blocks.
        dim, num_heads: of the patches' stream.
        query_dim, query_num_heads: of the queries' stream.
        mlp_ratio: hidden dim of both feed-forward parts over the stream's.
    """

    depth: Positive = 16
    dim: int = Field(default=64, gt=0, multiple_of=4)
    num_heads: Positive = 4
    query_dim: Positive = 512
    query_num_heads: Positive = 8
    mlp_ratio: float = Field(default=4.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> DualStreamConfig:
        for heads, dim in ((self.num_heads, self.dim), (self.query_num_heads, self.query_dim)):
            if dim % heads:
                raise ValueError(f"num_heads {heads} does not divide dim {dim}")
        return self


class DualStreamBlock(nn.Module):
    """Patches attend to patches; queries attend to patches and queries, modulated by their position. Norms have no weights.

    Args:
        config: sizes.
        is_last: whether it is the last block, whose patches are read but not updated, since no block reads them afterwards.
    """

    def __init__(self, config: DualStreamConfig, *, is_last: bool) -> None:
        super().__init__()
        dim, query_dim = config.dim, config.query_dim
        self.query_num_heads = config.query_num_heads
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.attn = None if is_last else SelfAttention(dim, config.num_heads)
        self.mlp = None if is_last else Mlp(dim, int(dim * config.mlp_ratio), activation=gelu_tanh)
        self.modulation = PositionModulation(query_dim, parts=6)
        self.query_norm = nn.LayerNorm(query_dim, eps=1e-6, elementwise_affine=False)
        self.query_qkv = nn.Linear(query_dim, 3 * query_dim)
        self.patch_kv = nn.Linear(dim, 2 * query_dim)
        self.query_proj = nn.Linear(query_dim, query_dim)
        self.query_mlp = Mlp(query_dim, int(query_dim * config.mlp_ratio), activation=gelu_tanh)

    def forward(self, patches: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (B, n, dim), queries (B, K, query_dim) -> the same shapes."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation.of_first(queries.shape[1])
        seen = self.norm(patches)
        queries = torch.addcmul(queries, gate1, self._read(seen, modulate(self.query_norm(queries), shift1, scale1)))
        queries = torch.addcmul(queries, gate2, self.query_mlp(modulate(self.query_norm(queries), shift2, scale2)))
        if self.attn is not None and self.mlp is not None:
            patches = patches + self.attn(seen)
            patches = patches + self.mlp(self.norm(patches))
        return patches, queries

    def _read(self, patches: Tensor, queries: Tensor) -> Tensor:
        query, own_key, own_value = self._heads(self.query_qkv(queries), 3)
        key, value = self._heads(self.patch_kv(patches), 2)
        attended = F.scaled_dot_product_attention(query, torch.cat([key, own_key], dim=2), torch.cat([value, own_value], dim=2))
        return self.query_proj(attended.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor, parts: int) -> Tensor:
        """(B, L, parts * D) -> (parts, B, heads, L, D / heads)."""
        return x.unflatten(2, (parts, self.query_num_heads, -1)).permute(2, 0, 3, 1, 4)


class DualStreamEncoder(nn.Module):
    """A grid of features -> latents of K queries, in their order.

    Args:
        config: sizes.
        channels: of the grid.
        grid_size: side of the square grid.
        patch_size: side of a patch on it.
        num_queries: K.
        latent_dim: channels of a latent.
    """

    patch_positions: Tensor

    def __init__(self, config: DualStreamConfig, *, channels: int, grid_size: int, patch_size: int, num_queries: int, latent_dim: int) -> None:
        super().__init__()
        side = grid_size // patch_size
        self.patch_size = patch_size
        self.patch_embed = nn.Linear(channels * patch_size**2, config.dim)
        self.register_buffer("patch_positions", sincos_positions(side, side, config.dim))
        self.queries = nn.Parameter(torch.randn(num_queries, config.query_dim) * 0.02)
        self.blocks = nn.ModuleList(DualStreamBlock(config, is_last=number == config.depth) for number in range(1, config.depth + 1))
        self.to_latents = nn.Linear(config.query_dim, latent_dim)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, K, latent_dim)."""
        patches = self.patch_embed(patchify(grid, self.patch_size)) + self.patch_positions
        queries = self.queries.expand(len(grid), -1, -1)
        for block in self.blocks:
            patches, queries = block(patches, queries)
        return self.to_latents(queries)
