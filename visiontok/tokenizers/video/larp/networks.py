"""The two ViTs of LARP: one writes a clip into latent queries, the other reads the latents with queries that lie where the patches are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visiontok.layers.attention import ALL
from visiontok.layers.patches import clip_positions, sincos
from visiontok.layers.transformer import TransformerBlock
from visiontok.layers.vit import ViTConfig, init_vit_weights

Grid = tuple[int, int, int]
"""Patches along time, height and width of a whole clip."""


class FixedPositions(nn.Module):
    """Sines and cosines of the column (first half of the channels) and the row (second half), plus those of the time over all channels."""

    table: Tensor

    def __init__(self, grid: Grid, dim: int) -> None:
        super().__init__()
        self.register_buffer("table", clip_positions(grid, dim))
        _, height, width = grid
        self.per_step = height * width

    def forward(self, steps: int) -> Tensor:
        """Positions of the first `steps` steps of time, (steps h w, D)."""
        return self.table[: steps * self.per_step]


class LearnedPositions(nn.Module):
    """The sum of one learned row for the time, one for the row and one for the column of a patch."""

    def __init__(self, grid: Grid, dim: int) -> None:
        super().__init__()
        time, height, width = grid
        self.time = nn.Parameter(torch.randn(time, 1, 1, dim) * 0.02)
        self.height = nn.Parameter(torch.randn(1, height, 1, dim) * 0.02)
        self.width = nn.Parameter(torch.randn(1, 1, width, dim) * 0.02)

    def forward(self, steps: int) -> Tensor:
        """Positions of the first `steps` steps of time, (steps h w, D)."""
        return (self.time[:steps] + self.height + self.width).flatten(0, 2)


def positions(grid: Grid, dim: int, *, learned: bool) -> FixedPositions | LearnedPositions:
    """Where the patches of a clip lie."""
    return LearnedPositions(grid, dim) if learned else FixedPositions(grid, dim)


def type_row(dim: int, *, present: bool) -> nn.Parameter | None:
    """A learned row (1, D) that is added to all tokens of a kind."""
    return nn.Parameter(torch.randn(1, dim) * 0.02) if present else None


def blocks(config: ViTConfig) -> nn.ModuleList:
    """Pre-norm blocks without biases of q, k and v."""
    mlp_dim = int(config.dim * config.mlp_ratio)
    return nn.ModuleList(TransformerBlock(config.dim, config.num_heads, mlp_dim=mlp_dim, qkv_bias=False) for _ in range(config.depth))


def run(blocks: nn.ModuleList, x: Tensor, kept: slice) -> Tensor:
    """(B, L, D) through all blocks; only the positions `kept` of the last one."""
    for block in blocks[:-1]:
        x = block(x, kept=ALL)
    return blocks[-1](x, kept=kept)


def with_type(table: Tensor, row: Tensor | None) -> Tensor:
    """A table (N, D), plus the row (1, D) of its kind of tokens where there is one."""
    return table if row is None else table + row


class ClipEncoder(nn.Module):
    """The sequence [patches | queries] through a ViT; the queries' outputs become the latents.

    Args:
        config: sizes.
        frames_per_patch: frames of a patch.
        grid: patches of a whole clip.
        num_latent_tokens: queries N.
        latent_dim: channels C of a latent.
        learned_positions: of the patches.
        types: kinds of tokens with a learned row of their own, of "patches" and "latent_queries".
    """

    def __init__(
        self,
        config: ViTConfig,
        *,
        frames_per_patch: int,
        grid: Grid,
        num_latent_tokens: int,
        latent_dim: int,
        learned_positions: bool,
        types: frozenset[str],
    ) -> None:
        super().__init__()
        dim, size = config.dim, (frames_per_patch, config.patch_size, config.patch_size)
        self.patch_embed = nn.Conv3d(3, dim, size, stride=size)
        self.patch_positions = positions(grid, dim, learned=learned_positions)
        self.patch_type = type_row(dim, present="patches" in types)
        self.latent_queries = nn.Parameter(torch.randn(num_latent_tokens, dim) * 0.02)
        self.latent_query_type = type_row(dim, present="latent_queries" in types)
        self.blocks = blocks(config)
        self.to_latents = nn.Linear(dim, latent_dim)
        self.apply(init_vit_weights)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1], T at most that of a whole clip -> latents (B, N, C)."""
        embedded = self.patch_embed(clips)
        table = with_type(self.patch_positions(embedded.shape[2]), self.patch_type)
        queries = with_type(self.latent_queries, self.latent_query_type)
        x = torch.cat([embedded.flatten(2).transpose(1, 2) + table, queries.expand(len(clips), -1, -1)], dim=1)
        return self.to_latents(run(self.blocks, x, kept=slice(len(table), None)))


class ClipDecoder(nn.Module):
    """The sequence [latents | queries at the patches] through a ViT; the queries' outputs become patches.

    Args:
        config: sizes.
        frames_per_patch: frames of a patch.
        grid: patches of a whole clip.
        num_latent_tokens: N.
        latent_dim: channels C of a latent.
        learned_positions: of the queries.
        learned_latent_positions: of the latents.
        types: kinds of tokens with a learned row of their own, of "latents" and "patch_queries".
    """

    def __init__(
        self,
        config: ViTConfig,
        *,
        frames_per_patch: int,
        grid: Grid,
        num_latent_tokens: int,
        latent_dim: int,
        learned_positions: bool,
        learned_latent_positions: bool,
        types: frozenset[str],
    ) -> None:
        super().__init__()
        dim = config.dim
        self.grid, self.patch = grid, (frames_per_patch, config.patch_size, config.patch_size)
        self.embed = nn.Linear(latent_dim, dim)
        if learned_latent_positions:
            self.latent_positions: Tensor = nn.Parameter(torch.randn(num_latent_tokens, dim) * 0.02)
        else:
            self.register_buffer("latent_positions", sincos(num_latent_tokens, dim).to(torch.float32))
        self.latent_type = type_row(dim, present="latents" in types)
        self.query_positions = positions(grid, dim, learned=learned_positions)
        self.query_type = type_row(dim, present="patch_queries" in types)
        self.blocks = blocks(config)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.to_pixels = nn.Linear(dim, 3 * frames_per_patch * config.patch_size**2)
        self.apply(init_vit_weights)

    def forward(self, latents: Tensor, steps: int) -> Tensor:
        """Latents (B, N, C) -> the first `steps` patches along time of a clip, (B, 3, steps * frames_per_patch, H, W), not clamped."""
        latent_tokens = self.embed(latents) + with_type(self.latent_positions, self.latent_type)
        queries = with_type(self.query_positions(steps), self.query_type)
        x = torch.cat([latent_tokens, queries.expand(len(latents), -1, -1)], dim=1)
        x = self.to_pixels(self.norm(run(self.blocks, x, kept=slice(latents.shape[1], None))))
        pixels = x.unflatten(2, (*self.patch, 3)).unflatten(1, (steps, *self.grid[1:]))  # (B, t, h, w, pt, p, p, 3)
        return pixels.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
