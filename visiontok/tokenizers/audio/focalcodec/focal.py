"""Focal modulation (Yang et al. 2022, arXiv 2203.11926) over frames: what compresses features to latents, and what restores them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.layers.carry import Carry, preceded
from visiontok.layers.frame_conv import FrameConv
from visiontok.layers.snake import Snake
from visiontok.layers.transformer import Mlp


class FocalConfig(Config):
    """Compressor or decompressor.

    Attributes:
        dims: of the blocks.
        factors: by which the frames become fewer (compressor, before each block) or more (decompressor, after each block).
        focal_window, focal_level, focal_factor: kernels of the context are window + factor k for k below level.
        post_norm: norms after instead of before.
        layer_scale: a learned scale per channel of what is added.
        normalize: the sum over levels becomes a mean.
        causal: nothing reads later frames; norms are then `DynamicTanh`.
        window: frames of the widest context of a causal network, which is the mean over all frames otherwise.
        last_window: the same of the last block; None for the same.
        lookahead: frames of a chunk beyond the first, within which a causal decompressor refines its features; 0 for none.
    """

    dims: tuple[Positive, ...] = Field(default=(1024, 512, 256), min_length=1)
    factors: tuple[Positive, ...] = (1, 1, 1)
    focal_window: Positive = 14
    focal_level: Positive = 2
    focal_factor: int = Field(default=4, ge=0)
    post_norm: bool = False
    layer_scale: bool = False
    normalize: bool = False
    causal: bool = False
    window: Positive = 512
    last_window: Positive | None = None
    lookahead: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> FocalConfig:
        if len(self.dims) != len(self.factors):
            raise ValueError(f"dims {self.dims} and factors {self.factors} differ in length")
        return self

    def norm(self, dim: int) -> nn.Module:
        """Of a block."""
        return DynamicTanh() if self.causal else nn.LayerNorm(dim)


class DynamicTanh(nn.Module):
    """tanh(alpha x) with one learned number, in place of a norm (Zhu et al. 2025, arXiv 2503.10622)."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return (self.alpha * x).tanh()


class FocalEncoder(nn.Module):
    """Features (B, L, C) -> latents (B, L', D), L' = ceil(L / factor) for every factor."""

    def __init__(self, config: FocalConfig, *, in_dim: int, out_dim: int) -> None:
        super().__init__()
        ins = (in_dim, *config.dims[:-1])
        sizes = zip(ins, config.dims, config.factors, strict=True)
        self.layers = nn.ModuleList(EncoderStage(config, *size) for size in sizes)
        self.out_proj = nn.Linear(config.dims[-1], out_dim)

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, carry)
        latents: Tensor = self.out_proj(x)
        return latents


class EncoderStage(nn.Module):
    """Fewer frames, then a block."""

    def __init__(self, config: FocalConfig, in_dim: int, dim: int, factor: int) -> None:
        super().__init__()
        self.downscale = DownScale(in_dim, dim, factor, causal=config.causal)
        self.focal_block = FocalBlock(config, dim, window=config.window)

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        result: Tensor = self.focal_block(self.downscale(x, carry), carry)
        return result


class FocalDecoder(nn.Module):
    """Codes (B, L', D) -> features (B, L' * product of the factors, C)."""

    def __init__(self, config: FocalConfig, *, in_dim: int, out_dim: int) -> None:
        super().__init__()
        windows = [config.window] * (len(config.dims) - 1) + [config.last_window or config.window]
        outs = (*config.dims[1:], out_dim)
        self.in_proj = nn.Linear(in_dim, config.dims[0])
        self.layers = nn.ModuleList(DecoderStage(config, *size) for size in zip(config.dims, outs, config.factors, windows, strict=True))
        self.refiner = Refiner(out_dim, 1 + config.lookahead) if config.causal and config.lookahead else nn.Identity()

    def forward(self, codes: Tensor, carry: Carry | None = None) -> Tensor:
        x = self.in_proj(codes)
        for layer in self.layers:
            x = layer(x, carry)
        features: Tensor = self.refiner(x)
        return features


class DecoderStage(nn.Module):
    """A block, then more frames."""

    def __init__(self, config: FocalConfig, dim: int, out_dim: int, factor: int, window: int) -> None:
        super().__init__()
        self.focal_block = FocalBlock(config, dim, window=window)
        self.upscale = UpScale(dim, out_dim, factor, causal=config.causal)

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        result: Tensor = self.upscale(self.focal_block(x, carry))
        return result


class FocalBlock(nn.Module):
    """Focal modulation and a feed-forward network, each added to its input; (B, L, C) -> (B, L, C)."""

    def __init__(self, config: FocalConfig, dim: int, *, window: int) -> None:
        super().__init__()
        self.post_norm = config.post_norm
        self.modulation_norm, self.feed_forward_norm = config.norm(dim), config.norm(dim)
        self.modulation = FocalModulation(config, dim, window=window)
        self.feed_forward = Mlp(dim, 4 * dim)
        self.modulation_gamma = nn.Parameter(torch.full((dim,), 1e-4)) if config.layer_scale else None
        self.feed_forward_gamma = nn.Parameter(torch.full((dim,), 1e-4)) if config.layer_scale else None

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        x = x + self._part(x, self.modulation_norm, partial(self.modulation, carry=carry), self.modulation_gamma)
        return x + self._part(x, self.feed_forward_norm, self.feed_forward, self.feed_forward_gamma)

    def _part(self, x: Tensor, norm: nn.Module, part: Callable[[Tensor], Tensor], gamma: Tensor | None) -> Tensor:
        found: Tensor = norm(part(x)) if self.post_norm else part(norm(x))
        return found if gamma is None else gamma * found


class FocalModulation(nn.Module):
    """A query of every frame times the gated sum of its contexts, from near ones to that of all frames; (B, L, C) -> (B, L, C)."""

    def __init__(self, config: FocalConfig, dim: int, *, window: int) -> None:
        super().__init__()
        self.config, self.dim = config, dim
        kernels = [config.focal_window + config.focal_factor * level for level in range(config.focal_level)] + [window] * config.causal
        self.in_proj, self.out_proj = nn.Linear(dim, 2 * dim + config.focal_level + 1), nn.Linear(dim, dim)
        self.layers = nn.ModuleList(nn.Sequential(FrameConv(dim, dim, kernel, causal=config.causal, groups=dim), nn.GELU()) for kernel in kernels)
        self.context_proj = nn.Conv1d(dim, dim, 1)
        self.norm = config.norm(dim) if config.post_norm else nn.Identity()

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        query, context, gates = self.in_proj(x).split([self.dim, self.dim, self.config.focal_level + 1], dim=-1)
        context, weights = context.transpose(1, 2), gates.transpose(1, 2).split(1, dim=1)
        total = torch.zeros_like(context)
        for (conv, activation), weight in zip(self._layers(), weights, strict=False):
            context = activation(conv(context, carry))
            total = total + context * weight
        if not self.config.causal:
            total = total + F.gelu(context.mean(dim=-1, keepdim=True)) * weights[-1]
        if self.config.normalize:
            total = total / len(weights)
        modulated: Tensor = self.out_proj(self.norm(query * self.context_proj(total).transpose(1, 2)))
        return modulated

    def _layers(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """The convolution and the activation of every context."""
        return ((layer[0], layer[1]) for layer in self.layers if isinstance(layer, nn.Sequential))


class DownScale(nn.Module):
    """(B, L, C) -> (B, ceil(L / factor), C'); the last frames are completed with zeros, or the first by itself where it is causal."""

    def __init__(self, in_dim: int, dim: int, factor: int, *, causal: bool) -> None:
        super().__init__()
        self.factor, self.causal = factor, causal
        self.downscale = nn.Conv1d(in_dim, dim, factor, stride=factor)
        self.activation = Snake(dim)

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        x = x.transpose(1, 2)
        right = (0, -x.shape[-1] % self.factor)
        x = preceded(x, self.factor - 1, "replicate", layer=self, carry=carry) if self.causal else F.pad(x, right)
        result: Tensor = self.activation(self.downscale(x)).transpose(1, 2)
        return result


class UpScale(nn.Module):
    """(B, L, C) -> (B, L * factor, C')."""

    def __init__(self, dim: int, out_dim: int, factor: int, *, causal: bool) -> None:
        super().__init__()
        self.factor, self.causal = factor, causal
        self.activation = Snake(dim)
        self.upscale = nn.ConvTranspose1d(dim, out_dim, factor, stride=factor)

    def forward(self, x: Tensor) -> Tensor:
        found = self.activation(x.transpose(1, 2))
        if self.causal:
            found = F.pad(found, (self.factor - 1, 0), mode="replicate")
        result: Tensor = self.upscale(found)[..., -x.shape[1] * self.factor :].transpose(1, 2)
        return result


class Refiner(nn.Module):
    """A feed-forward network over the frames of every chunk together, added; (B, L, C) -> (B, L, C)."""

    def __init__(self, dim: int, chunk: int) -> None:
        super().__init__()
        self.chunk = chunk
        self.in_proj, self.out_proj = nn.Linear(chunk * dim, chunk * dim), nn.Linear(chunk * dim, chunk * dim)

    def forward(self, x: Tensor) -> Tensor:
        chunks = F.pad(x, (0, 0, 0, -x.shape[1] % self.chunk)).unflatten(1, (-1, self.chunk)).flatten(2)
        refined = chunks + self.out_proj(F.gelu(self.in_proj(chunks)))
        return refined.unflatten(2, (self.chunk, -1)).flatten(1, 2)[:, : x.shape[1]]
