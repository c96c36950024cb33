"""GLM-Image's semantic tokenizer (Z.ai 2026) with transformers' `GlmImageVisionModel` and `GlmImageVQVAE`. It only encodes.

A vision transformer reads the image; its features are quantized. In GLM-Image a diffusion model turns the tokens into pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.base.optional import import_optional
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.image.glm_image_vq.reference import KEY_MAP, read_config
from visiontok.tokenizers.shared.library_model import LibraryConfig, problems_of, read_part
from visiontok.tokenizers.shared.library_vq import LibraryVq
from visiontok.tokens.grid import grid_layout

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's statistics."""


_NETWORKS, _SETTINGS = (f"transformers.models.glm_image.{kind}_glm_image" for kind in ("modeling", "configuration"))


class GlmImageVisionConfig(LibraryConfig):
    """Fields of transformers' `GlmImageVisionConfig`, by its names."""

    depth: Positive = 40
    hidden_size: Positive = 1536
    hidden_act: str = "gelu"
    attention_bias: bool = True
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    num_heads: Positive = 16
    in_channels: Literal[3] = 3
    image_size: Positive = 2048
    patch_size: Positive = 16
    spatial_merge_size: Literal[1] = 1
    intermediate_size: Positive = 6144
    layer_norm_eps: float = Field(default=1e-6, gt=0)


class GlmImageVqConfig(LibraryConfig):
    """Fields of `GlmImageVQVAEConfig`, by its names.

    Attributes:
        vision: the transformer that reads images.
        image_size: side of the square that files are resized and cropped to; tensors of any multiple of the patch are taken as they are.
    """

    embed_dim: Positive = 2048
    num_embeddings: Positive = 16384
    latent_channels: Positive = 1536
    in_channels: Literal[3] = 3
    vision: GlmImageVisionConfig = GlmImageVisionConfig()
    image_size: Positive = 512

    @model_validator(mode="after")
    def _check(self) -> GlmImageVqConfig:
        if self.vision.hidden_size != self.latent_channels:
            raise ValueError(f"vision.hidden_size {self.vision.hidden_size} must equal latent_channels {self.latent_channels}")
        if self.image_size % self.vision.patch_size:
            raise ValueError(f"patches of {self.vision.patch_size} pixels do not divide an image of {self.image_size}")
        return self

    @classmethod
    def added_fields(cls) -> frozenset[str]:
        """What `GlmImageVQVAEConfig` does not know."""
        return frozenset({"vision", "image_size"})


class GlmImageVq(LibraryVq[GlmImageVqConfig]):
    """One token per patch; latents and codes on the unit sphere. It only encodes."""

    config_class = GlmImageVqConfig
    can_decode = False
    library: ClassVar = "transformers"
    network_class: ClassVar = "GlmImageVQVAE"
    network_config_class: ClassVar = "GlmImageVQVAEConfig"
    reference_keys: ClassVar = KEY_MAP

    encoder: nn.Module
    quant_conv: nn.Module

    def __init__(self, config: GlmImageVqConfig) -> None:
        library, settings = import_optional(_NETWORKS, extra="zoo"), import_optional(_SETTINGS, extra="zoo")
        vq = library.GlmImageVQVAE(settings.GlmImageVQVAEConfig(**config.library_arguments()))
        super().__init__(config, network=vq, normalize=True)
        self.encoder = library.GlmImageVisionModel(settings.GlmImageVisionConfig(**config.vision.library_arguments()))
        self.register_buffer("_mean", torch.tensor(MEAN, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(STD, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.preprocessing = ImagePreprocessing(size=config.image_size, tensors_keep_size=True, multiple_of=self.stride)
        side = config.image_size // self.stride
        self.layout = grid_layout((side, side), stride=self.stride, vocab_size=config.num_embeddings)

    _mean: Tensor
    _std: Tensor

    @property
    def stride(self) -> int:
        return self.config.vision.patch_size

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, H / patch, W / patch, D)."""
        patch, (batch, _, height, width) = self.stride, signal.shape
        grid = (height // patch, width // patch)
        normalized = (signal - self._mean) / self._std
        patches = normalized.unflatten(3, (grid[1], patch)).unflatten(2, (grid[0], patch)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2).flatten(1)
        sizes = torch.tensor([[1, *grid]] * batch, dtype=torch.int64, device=signal.device)
        features: Tensor = self.encoder(patches, grid_thw=sizes).last_hidden_state
        latents: Tensor = self.quant_conv(features.view(batch, *grid, -1).permute(0, 3, 1, 2))
        return latents.permute(0, 2, 3, 1)

    @classmethod
    def read_library(cls, name: str, hub: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor], list[str]]:
        """The vision transformer and the quantizer, each by itself, without the language model between them."""
        library = import_optional(_NETWORKS, extra="zoo")
        config, weights, problems = {}, {}, []
        for part, network_class in (("vqmodel", library.GlmImageVQVAE), ("visual", library.GlmImageVisionModel)):
            network, report = read_part(network_class, name, part, hub)
            config[network.config.base_config_key] = network.config.to_dict()
            weights.update({f"{part}.{key}": tensor for key, tensor in network.state_dict().items()})
            problems += problems_of(report)
        return config, weights, problems

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From the `config.json` of a whole GLM-Image model: its `vq_config` and `vision_config`."""
        return GlmImageVqConfig.parse(read_config(config), source="the GLM-Image configuration")
