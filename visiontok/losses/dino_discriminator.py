"""A discriminator on the features of a frozen DINO: small heads on the tokens of several of its blocks.

The design is StyleGAN-T's (Sauer et al. 2023, arXiv 2301.09515), in the form in which VAR's and RobustTok's tokenizers are trained against it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from visiontok.base.config import Config, Positive
from visiontok.base.noise import NoiseLike, as_noise
from visiontok.layers.dinov2 import DinoViT, dino_weights
from visiontok.layers.vit import ViTConfig
from visiontok.losses.augmentation import crop
from visiontok.losses.discriminator import Discriminator
from visiontok.losses.pixels import RGB, check_rgb, to_unit
from visiontok.losses.weight_files import ImageNetNormalization, frozen, read_state_dict
from visiontok.signals.spec import SignalSpec


class DinoDiscriminatorConfig(Config):
    """Backbone and heads.

    Attributes:
        weights: file with the backbone's weights; for the default sizes Meta's `dino_deitsmall16_pretrain.pth` (DINO ViT-S/16, 87 MB).
        backbone: its sizes.
        image_size: side that images are resized or cropped to.
        blocks: after which the heads read, besides what the first block reads; counted from 0.
        kernel_size: of the residual convolution along the tokens.
        virtual_batch: samples over which the heads' batch norm takes its statistics.
        crop_share: share of the images that are cropped at a random position instead of resized, where they are larger than `image_size`.
    """

    type: Literal["dino"] = "dino"
    weights: Path
    backbone: ViTConfig = ViTConfig(dim=384, depth=12, num_heads=6, patch_size=16)
    image_size: Positive = 224
    blocks: tuple[int, ...] = Field(default=(2, 5, 8, 11), min_length=1)
    kernel_size: Positive = 9
    virtual_batch: Positive = 8
    crop_share: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> DinoDiscriminatorConfig:
        if self.image_size % self.backbone.patch_size:
            raise ValueError(f"patches of {self.backbone.patch_size} pixels do not divide image_size {self.image_size}")
        if list(self.blocks) != sorted(set(self.blocks)) or not 0 <= self.blocks[0] <= self.blocks[-1] < self.backbone.depth:
            raise ValueError(f"blocks {self.blocks} must rise and lie between 0 and depth - 1 = {self.backbone.depth - 1}")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {self.kernel_size} must be odd")
        return self

    def build(self, signal: SignalSpec = RGB) -> DinoDiscriminator:
        """The discriminator of such signals, with random heads; reads the backbone's weights from their file.

        Raises:
            ConfigError: if the signals are not RGB, or have no known range.
            CheckpointError: if the weights are missing or another network's.
        """
        check_rgb(signal, name="the discriminator on DINO's features")
        backbone = DinoViT(self.backbone, image_size=self.image_size, layer_scale=None)
        side = self.image_size // self.backbone.patch_size
        frozen(backbone, dino_weights(read_state_dict(self.weights), patch_size=self.backbone.patch_size, grid_side=side))
        return DinoDiscriminator(self, backbone=backbone, signal=signal)


class DinoDiscriminator(Discriminator):
    """Logits of every head and every patch. The backbone stays frozen; gradients flow through it to the images.

    Args:
        config: sizes of the heads.
        backbone: frozen.
        signal: what the images are.
    """

    def __init__(self, config: DinoDiscriminatorConfig, *, backbone: DinoViT, signal: SignalSpec) -> None:
        super().__init__()
        self.config, self.signal = config, signal
        self.backbone = backbone.eval().requires_grad_(False)
        self.normalize = ImageNetNormalization()
        self.heads = nn.ModuleList(
            _head(config.backbone.dim, kernel_size=config.kernel_size, virtual_batch=config.virtual_batch) for _ in range(len(config.blocks) + 1)
        )

    def forward(self, images: Tensor, noise: NoiseLike = None) -> Tensor:
        """(B, 3, H, W) -> logits (B, heads * patches).

        Args:
            images: real or generated.
            noise: source of the crops, uniform (B, 3).
        """
        tokens = self.backbone.embed(self.normalize(self._sized(to_unit(images, self.signal), noise)))
        logits = [self.heads[0](_read(tokens))]
        for index, block in enumerate(self.backbone.trunk.blocks):
            tokens = block(tokens)
            if index in self.config.blocks:
                logits.append(self.heads[len(logits)](_read(tokens)))
        return torch.cat(logits, dim=2).flatten(1)

    def _sized(self, images: Tensor, noise: NoiseLike) -> Tensor:
        """Resized to the backbone's side; of larger images some are cropped instead."""
        size, (height, width) = self.config.image_size, images.shape[-2:]
        if (height, width) == (size, size):
            return images
        resized = F.interpolate(images, size=(size, size), mode="area" if height > size else "bicubic")
        if min(height, width) <= size or not self.config.crop_share:
            return resized
        draws = as_noise(noise, images.device).uniform(len(images), 3)
        tops = (draws[:, 0] * (height - size + 1)).long().clamp_max(height - size)
        lefts = (draws[:, 1] * (width - size + 1)).long().clamp_max(width - size)
        is_cropped = (draws[:, 2] < self.config.crop_share)[:, None, None, None]
        return torch.where(is_cropped, crop(images, tops, lefts, (size, size)), resized)


def _read(tokens: Tensor) -> Tensor:
    """(B, 1 + N, D) -> (B, D, N): the class token added to every patch."""
    return (tokens[:, 1:] + tokens[:, :1]).transpose(1, 2)


def _head(dim: int, *, kernel_size: int, virtual_batch: int) -> nn.Sequential:
    """(B, D, N) -> logits (B, 1, N)."""
    return nn.Sequential(
        _convolution(dim, 1, virtual_batch), _Residual(_convolution(dim, kernel_size, virtual_batch)), spectral_norm(nn.Conv1d(dim, 1, 1))
    )


def _convolution(dim: int, kernel_size: int, virtual_batch: int) -> nn.Sequential:
    conv = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, padding_mode="circular")
    return nn.Sequential(spectral_norm(conv), VirtualBatchNorm(dim, virtual_batch), nn.LeakyReLU(0.2))


class _Residual(nn.Module):
    """(f(x) + x) / sqrt(2)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return (self.branch(x) + x) / math.sqrt(2)


class VirtualBatchNorm(nn.Module):
    """Batch norm whose statistics are those of a few samples, in training and evaluation alike, so that they do not depend on the batch size.

    Args:
        channels: C.
        batch: most samples that share statistics; a batch is divided as evenly as possible.
    """

    def __init__(self, channels: int, batch: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.batch, self.eps = batch, eps
        self.weight = nn.Parameter(torch.ones(channels, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(channels, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, N) -> (B, C, N), float32."""
        parts = x.float().tensor_split(-(-len(x) // self.batch))
        return torch.cat([self._normalized(part) for part in parts]) * self.weight[:, None] + self.bias[:, None]

    def _normalized(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=(0, 2), keepdim=True, correction=0)
        return (x - mean) * torch.rsqrt(variance + self.eps)
