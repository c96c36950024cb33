"""DINOv2 features (Oquab et al., arXiv 2304.07193), whose Fréchet distance is called FD-DINOv2 (Stein et al., arXiv 2306.04675)."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self

from visiontok.base.errors import CheckpointError
from visiontok.base.optional import import_optional
from visiontok.evaluation.features.base import FeatureExtractor, described, load_into
from visiontok.evaluation.features.protocol.resizes import resize_images
from visiontok.evaluation.features.weight_files import LoadedWeights, WeightFile, verified_weights
from visiontok.losses.weight_files import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

DINOV2_WEIGHTS = WeightFile(
    name="dinov2_vitl14_pretrain.pth",
    size="1.2 GB",
    sha256="",
    source="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
    license="Apache-2.0",
)
SIZE, HEAD_DIM = 224, 64
OFFSET = 0.1  # the authors add it to the grid when they resample positions, which shifts every position slightly


class DinoV2VitL14(FeatureExtractor):
    """The class token (B, 1024) after the last norm, of images squashed to 224 pixels by PIL's bicubic resize."""

    name = "dinov2-vit-l14"
    width = 1024
    published_names = MappingProxyType({"FD": "FD-DINOv2"})

    def __init__(self, weights: LoadedWeights | Path | str | None = None) -> None:
        """Build the network, whose sizes follow from the weights.

        Args:
            weights: loaded ones, or the path of the file; by default it is looked for in the weights' folder.

        Raises:
            CheckpointError: if the file is missing (says how to get it) or not DINOv2's.
            DependencyError: if timm is not installed.
        """
        loaded = weights if isinstance(weights, LoadedWeights) else verified_weights(DINOV2_WEIGHTS, weights)
        self.network = _network(loaded)
        self._mean, self._std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
        self.identity = described("dinov2", "pil-bicubic-224", loaded.sha256)
        self.protocol = f"DINOv2 class token after the last norm, PIL bicubic to {SIZE}, ImageNet normalization, weights {loaded.sha256[:12]}"

    def to(self, device: torch.device | str) -> Self:
        self.network.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    def extract(self, images: Tensor) -> Tensor:
        levels = resize_images(images, size=SIZE).to(self._mean.device).float() / 255
        return self.network((levels - self._mean) / self._std)


def _network(weights: LoadedWeights) -> VisionTransformer:
    timm = import_optional("timm.models.vision_transformer", extra="metrics")
    tensors = {key: value for key, value in weights.tensors.items() if key != "mask_token"}  # used in training only
    try:
        width, _, patch, _ = tensors["patch_embed.proj.weight"].shape
        tensors["pos_embed"] = _resampled(tensors["pos_embed"], grid=SIZE // patch)
    except KeyError as error:
        raise CheckpointError(f"these weights do not belong to DINOv2: they have no {error}") from error
    depth = sum(key.endswith("ls1.gamma") for key in tensors)
    network = timm.VisionTransformer(
        img_size=SIZE, patch_size=patch, embed_dim=width, depth=depth, num_heads=width // HEAD_DIM, init_values=1.0, num_classes=0
    )
    return load_into(network, LoadedWeights(tensors, weights.sha256), what="DINOv2").eval().requires_grad_(False)


def _resampled(positions: Tensor, *, grid: int) -> Tensor:
    """Position embeddings (1, 1 + n, D) of the class token and of grid x grid patches, as the authors resample them."""
    side = round((positions.shape[1] - 1) ** 0.5)
    if side == grid:
        return positions
    patches = positions[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = (grid + OFFSET) / side
    patches = F.interpolate(patches, scale_factor=(scale, scale), mode="bicubic", antialias=False)
    return torch.cat([positions[:, :1], patches.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
