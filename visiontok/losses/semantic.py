"""A contrastive loss between the latents of an image and a frozen DINOv2's features (ImageFolder, Li et al. 2024, arXiv 2410.01756; RobustTok)."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.base.errors import ConfigError
from visiontok.layers.dinov2 import DinoViT, dino_weights
from visiontok.layers.vit import ViTConfig
from visiontok.losses.pixels import RGB, check_rgb, to_unit
from visiontok.losses.weight_files import ImageNetNormalization, frozen, read_state_dict
from visiontok.signals.spec import SignalSpec


class DinoTeacherConfig(Config):
    """A frozen DINOv2.

    Attributes:
        weights: file with its weights, Meta's or timm's; for the default sizes `dinov2_vitb14_pretrain.pth` (DINOv2-B, 346 MB), whose patches of
            14 pixels are resampled to `backbone.patch_size`.
        backbone: its sizes.
        image_size: side that images are resized to.
    """

    weights: Path
    backbone: ViTConfig = ViTConfig(dim=768, depth=12, num_heads=12, patch_size=16)
    image_size: Positive = 256

    @model_validator(mode="after")
    def _check(self) -> DinoTeacherConfig:
        if self.image_size % self.backbone.patch_size:
            raise ValueError(f"patches of {self.backbone.patch_size} pixels do not divide image_size {self.image_size}")
        return self

    def build(self) -> DinoViT:
        """The frozen network; reads its weights from their file.

        Raises:
            CheckpointError: if they are missing or another network's.
        """
        net = DinoViT(self.backbone, image_size=self.image_size)
        side = self.image_size // self.backbone.patch_size
        frozen(net, dino_weights(read_state_dict(self.weights), patch_size=self.backbone.patch_size, grid_side=side))
        return net


class ScaleRiseConfig(Config):
    """A logit scale that rises evenly over training.

    Attributes:
        end: the scale that is reached.
        units: after so many units of `steps_per_unit` steps; within a unit nothing changes.
        steps_per_unit: 1 counts steps; the steps of an epoch count epochs.
    """

    end: float = Field(default=100.0, gt=0)
    units: Positive
    steps_per_unit: Positive = 1


class SemanticConfig(Config):
    """The semantic loss.

    Attributes:
        weight: of the loss.
        teacher: whose class token is compared.
        projection: name of the tokenizer's module that maps the teacher's features to the channels of a latent, (B, D) -> (B, C): the layer that
            the encoder's own outputs go through, such as `encoder.to_latents`. The last C channels of the latents are compared.
        normalize: compare directions only.
        scale: of the logits.
        scale_rise: how the scale rises from there; None keeps it.
        excluded_share: share of the batch, from its first sample on, that is excluded: those whose latents a quantizer's dropout cuts.
    """

    weight: float = Field(default=0.1, gt=0)
    teacher: DinoTeacherConfig
    projection: str
    normalize: bool = False
    scale: float = Field(default=1.0, gt=0)
    scale_rise: ScaleRiseConfig | None = None
    excluded_share: float = Field(default=0.0, ge=0, lt=1)

    def scale_at(self, step: int) -> float:
        """The logit scale of step `step`, counted from 0."""
        if self.scale_rise is None:
            return self.scale
        progress = min(step // self.scale_rise.steps_per_unit / self.scale_rise.units, 1.0)
        return self.scale + progress * (self.scale_rise.end - self.scale)


class SemanticLoss(nn.Module):
    """Symmetric cross-entropy (InfoNCE) between the mean latent of every image and the projected class token of the teacher.

    Args:
        config: see `SemanticConfig`.
        teacher: the frozen network.
        signal: what the tokenizer encodes; images.

    Raises:
        ConfigError: if the signals are no RGB images, or have no known range.
    """

    def __init__(self, config: SemanticConfig, *, teacher: DinoViT, signal: SignalSpec = RGB) -> None:
        super().__init__()
        check_rgb(signal, name="the semantic loss")
        if signal.modality != "image":
            raise ConfigError(f"the semantic loss compares images; this tokenizer's signal is {signal.modality}: remove it from the objective")
        self.config, self.signal = config, signal
        self.teacher = teacher.eval().requires_grad_(False)
        self.normalize = ImageNetNormalization()

    def forward(self, images: Tensor, latents: Tensor, projection: nn.Module, *, step: int) -> Tensor:
        """Unweighted loss; scalar.

        Args:
            images: (B, 3, H, W).
            latents: (B, ..., C'), what the decoder reads.
            projection: (B, D) -> (B, C), C at most C'; trained with the tokenizer.
            step: of training.
        """
        excluded = int(len(images) * self.config.excluded_share)
        projected = projection(self._class_tokens(images))[excluded:].float()
        pooled = latents.flatten(1, -2).mean(dim=1)[excluded:, -projected.shape[1] :].float()
        if self.config.normalize:
            projected, pooled = F.normalize(projected, dim=1), F.normalize(pooled, dim=1)
        return info_nce(projected, pooled, scale=self.config.scale_at(step))

    @torch.no_grad()
    def _class_tokens(self, images: Tensor) -> Tensor:
        images = to_unit(images, self.signal)
        size = self.teacher.image_size
        if images.shape[-2:] != (size, size):
            images = F.interpolate(images, size=(size, size), mode="bicubic", antialias=True)
        return self.teacher(self.normalize(images))[:, 0]


def info_nce(first: Tensor, second: Tensor, *, scale: float) -> Tensor:
    """Each row of `first` should fit the same row of `second` better than every other row, and the other way round; scalar.

    Rows of all processes are compared. The gradient, averaged over the processes as gradients are, is that of the loss of the whole batch.

    Args:
        first, second: (B, C).
        scale: of the products.
    """
    first, second, processes = _everyones(first), _everyones(second), _world_size()
    logits = scale * first @ second.T
    labels = torch.arange(len(logits), dtype=torch.int64, device=logits.device)
    loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    return loss if processes == 1 else loss + (processes - 1) * (loss - loss.detach())


def _everyones(rows: Tensor) -> Tensor:
    """The rows of all processes, of which there are equally many; gradients reach this process's own."""
    if _world_size() == 1:
        return rows
    gathered = [torch.empty_like(rows) for _ in range(_world_size())]
    dist.all_gather(gathered, rows.detach().contiguous())
    gathered[dist.get_rank()] = rows
    return torch.cat(gathered)


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
