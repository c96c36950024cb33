"""The frozen CLIP whose features Divot reads, with transformers' network."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Positive
from visiontok.base.optional import import_optional_class
from visiontok.tokenizers.shared.library_model import LibraryConfig

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pixels that CLIP was trained on."""


class ClipConfig(LibraryConfig):
    """Fields of `CLIPVisionConfig`, by its names; the defaults are those of OpenCLIP's ViT-H/14."""

    hidden_size: Positive = 1280
    intermediate_size: Positive = 5120
    num_hidden_layers: Positive = 32
    num_attention_heads: Positive = 16
    image_size: Positive = 224
    patch_size: Positive = 14
    hidden_act: str = "gelu"
    layer_norm_eps: float = Field(default=1e-5, gt=0)

    @property
    def side(self) -> int:
        """Of the grid of features."""
        return self.image_size // self.patch_size


class ClipFeatures(nn.Module):
    """The last hidden states of CLIP's image tower, without the class token, its last norm and its projection. It is not trained."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.image_size, self.side = config.image_size, config.side
        settings = import_optional_class("transformers", "CLIPVisionConfig", extra="zoo")(**config.library_arguments())
        network = import_optional_class("transformers", "CLIPVisionModel", extra="zoo")(settings)
        self.network: nn.Module = getattr(network, "vision_model", network).requires_grad_(False)  # newer versions have no module around it
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(S, 3, H, W) in [0, 1] -> (S, h, w, C)."""
        resized = F.interpolate(images, size=(self.image_size, self.image_size), mode="bicubic", align_corners=True)
        hidden: Tensor = self.network(pixel_values=(resized - self.mean) / self.std).last_hidden_state
        return hidden[:, 1:].unflatten(1, (self.side, self.side))

    def train(self, mode: bool = True) -> ClipFeatures:
        """Stays in evaluation mode."""
        return super().train(False)
