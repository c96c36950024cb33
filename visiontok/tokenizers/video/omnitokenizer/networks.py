"""Encoder and decoder of OmniTokenizer: patches of the first frame and of groups of later ones, transformers over frames and over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.layers.block import Block
from visiontok.tokenizers.video.omnitokenizer.attention import Grid, GridAttention, ScaledNorm, WindowAttention

LayerKind = Literal["attention", "window"]
Volume = tuple[int, int, int, int]
"""Samples, and their positions along time, height and width."""


class PositionConv(nn.Module):
    """A depthwise convolution over time and space, which tells positions by what lies around them (PEG, arXiv 2102.10882).

    It reads the sequence's memory as a volume (B, T, H, W), whatever its order: along time, where sequences are (B H W, T), positions so meet others
    than their neighbors, and the weights were trained with that.

    Args:
        dim: model dimension D.
        is_causal: whether the time before is read, and not that after.
    """

    def __init__(self, dim: int, *, is_causal: bool) -> None:
        super().__init__()
        self.conv = nn.Conv3d(dim, dim, 3, groups=dim)
        self.padding = (1, 1, 1, 1, *((2, 0) if is_causal else (1, 1)))

    def forward(self, x: Tensor, volume: Volume) -> Tensor:
        """Sequences (S, N, D) of the volume's B T H W positions -> (S, N, D)."""
        channels_first = x.reshape(*volume, x.shape[-1]).permute(0, 4, 1, 2, 3)
        result: Tensor = self.conv(F.pad(channels_first, self.padding))
        return result.permute(0, 2, 3, 4, 1).reshape(x.shape)


class GatedMlp(nn.Module):
    """Layer norm, then `a * gelu(b)` of two projections, and a third one; the projections have no bias.

    Args:
        dim: model dimension D.
        hidden_dim: in between.
        dropout: of the product, in training.
    """

    def __init__(self, dim: int, hidden_dim: int, *, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 2 * hidden_dim, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        value, gate = self.fc1(self.norm(x)).chunk(2, dim=-1)
        result: Tensor = self.fc2(self.dropout(F.gelu(gate) * value))
        return result


class Layer(Block):
    """`x += peg(x)` where there is one, `x += attn(x)`, `x += mlp(x)`; every branch normalizes its input itself."""

    def __init__(self, *, peg: PositionConv | None, attn: GridAttention | WindowAttention, mlp: GatedMlp) -> None:
        super().__init__()
        self.peg, self.attn, self.mlp = peg, attn, mlp

    def forward(self, x: Tensor, grid: Grid, volume: Volume) -> Tensor:
        """Sequences (S, N, D) over a grid of N positions -> (S, N, D)."""
        if self.peg is not None:
            x = x + self.peg(x, volume)
        x = x + self.attn(x, grid)
        result: Tensor = x + self.mlp(x)
        return result


class Transformer(nn.Module):
    """Layers, and a norm behind them."""

    def __init__(self, dim: int, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = ScaledNorm(dim)

    def forward(self, x: Tensor, grid: Grid, volume: Volume) -> Tensor:
        """Sequences (S, N, D) -> (S, N, D)."""
        for layer in self.layers:
            x = layer(x, grid, volume)
        return self.norm(x)

    def over_frames(self, x: Tensor) -> Tensor:
        """(B, T, H, W, D) -> the same, each frame a sequence."""
        samples, time, height, width, _ = x.shape
        frames = x.flatten(2, 3).flatten(0, 1)
        return self(frames, (height, width), (samples, time, height, width)).view(x.shape)

    def over_time(self, x: Tensor) -> Tensor:
        """(B, T, H, W, D) -> the same, each place a sequence."""
        samples, time, height, width, _ = x.shape
        places = x.permute(0, 2, 3, 1, 4).flatten(0, 2)
        mixed = self(places, (time,), (samples, time, height, width))
        return mixed.unflatten(0, (samples, height, width)).permute(0, 3, 1, 2, 4)


class PatchEmbedding(nn.Module):
    """Blocks of pixels, normalized, projected and normalized again.

    Args:
        size: frames, height and width of a block.
        dim: model dimension D.
    """

    def __init__(self, size: tuple[int, int, int], dim: int) -> None:
        super().__init__()
        self.size = size
        pixels = 3 * size[0] * size[1] * size[2]
        self.norm1, self.proj, self.norm2 = nn.LayerNorm(pixels), nn.Linear(pixels, dim), nn.LayerNorm(dim)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, t, h, w, D)."""
        time, height, width = self.size
        blocks = clips.unflatten(4, (-1, width)).unflatten(3, (-1, height)).unflatten(2, (-1, time))  # (B, 3, t, T', h, H', w, W')
        result: Tensor = self.norm2(self.proj(self.norm1(blocks.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4))))
        return result


class PatchProjection(nn.Module):
    """The way back: a matrix from every vector to its block of pixels."""

    def __init__(self, size: tuple[int, int, int], dim: int) -> None:
        super().__init__()
        self.size = size
        self.proj = nn.Linear(dim, 3 * size[0] * size[1] * size[2])

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, h, w, D) -> (B, 3, T, H, W)."""
        blocks = self.proj(x).unflatten(4, (3, *self.size))  # (B, t, h, w, 3, T', H', W')
        return blocks.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)


class Encoder(nn.Module):
    """Clips to a grid of vectors: the first frame by itself, then groups of frames.

    Args:
        dim: model dimension D.
        patch_size: side of a patch.
        frames_per_patch: frames of every patch but the first.
        spatial, temporal: over frames, then over time.
        pool: time and space by which outputs are averaged: later steps of time, and height and width.
    """

    def __init__(
        self, *, dim: int, patch_size: int, frames_per_patch: int, spatial: Transformer, temporal: Transformer, pool: tuple[int, int]
    ) -> None:
        super().__init__()
        self.embed_first = PatchEmbedding((1, patch_size, patch_size), dim)
        self.embed_rest = PatchEmbedding((frames_per_patch, patch_size, patch_size), dim)
        self.spatial, self.temporal, self.pool = spatial, temporal, pool

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, 1 + T, H, W) -> (B, 1 + t, h, w, D); an image is a clip of one frame."""
        x = both_parts(clips, self.embed_first, self.embed_rest, dims=(2, 1))
        x = self.temporal.over_time(self.spatial.over_frames(x))
        time, space = self.pool
        first, rest = ((1, space, space), (time, space, space))
        return both_parts(x, lambda part: averaged(part, first), lambda part: averaged(part, rest), dims=(1, 1))


class Decoder(nn.Module):
    """A grid of vectors back to clips; the arguments are those of the encoder, its poolings are undone by repeating."""

    def __init__(
        self, *, dim: int, patch_size: int, frames_per_patch: int, spatial: Transformer, temporal: Transformer, pool: tuple[int, int]
    ) -> None:
        super().__init__()
        self.temporal, self.spatial, self.pool = temporal, spatial, pool
        self.first_pixels = PatchProjection((1, patch_size, patch_size), dim)
        self.rest_pixels = PatchProjection((frames_per_patch, patch_size, patch_size), dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + t, h, w, D) -> (B, 3, 1 + T, H, W)."""
        time, space = self.pool
        x = both_parts(x, lambda part: part, lambda part: part.repeat_interleave(time, dim=1), dims=(1, 1))
        x = x.repeat_interleave(space, dim=2).repeat_interleave(space, dim=3)
        x = self.spatial.over_frames(self.temporal.over_time(x))
        return both_parts(x, self.first_pixels, self.rest_pixels, dims=(1, 2))


def both_parts(x: Tensor, first: Callable[[Tensor], Tensor], rest: Callable[[Tensor], Tensor], *, dims: tuple[int, int]) -> Tensor:
    """The first step of time by one function, those behind it, if any, by another; `dims` are time's axis before and after."""
    before, after = dims
    alone = first(x.narrow(before, 0, 1))
    count = x.shape[before] - 1
    return torch.cat([alone, rest(x.narrow(before, 1, count))], dim=after) if count else alone


def averaged(x: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Means of blocks of (B, T, H, W, D)."""
    time, height, width = size
    return x.unflatten(3, (-1, width)).unflatten(2, (-1, height)).unflatten(1, (-1, time)).mean(dim=(2, 4, 6))
