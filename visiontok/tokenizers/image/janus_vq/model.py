"""Janus' and Janus-Pro's image tokenizer for generation (DeepSeek 2024/25) with transformers' `JanusVQVAE`."""

from __future__ import annotations

from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Positive
from visiontok.tokenizers.shared.library_grid import LibraryGridVq
from visiontok.tokenizers.shared.library_model import LibraryConfig


class JanusVqConfig(LibraryConfig):
    """Fields of `JanusVQVAEConfig`, by its names; `num_patches` is the number of tokens along a side."""

    embed_dim: Positive = 8
    num_embeddings: Positive = 16384
    double_latent: Literal[False] = False
    latent_channels: Positive = 256
    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    base_channels: Positive = 128
    channel_multiplier: tuple[Positive, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: Positive = 2
    dropout: float = Field(default=0.0, ge=0, lt=1)
    num_patches: Positive = 32


class JanusVq(LibraryGridVq[JanusVqConfig]):
    """The search compares latents and codes as they are; the decoder reads codes of unit length. Both as in transformers."""

    config_class = JanusVqConfig
    library: ClassVar = "transformers"
    network_class: ClassVar = "JanusVQVAE"
    network_config_class: ClassVar = "JanusVQVAEConfig"
    ignored_settings: ClassVar = MappingProxyType(
        dict.fromkeys(("projection_dim", "num_hidden_layers", "hidden_act", "image_token_embed_dim"), "sizes on the side of the language model")
    )

    decoder: nn.Module
    post_quant_conv: nn.Module

    def __init__(self, config: JanusVqConfig) -> None:
        stride = 2 ** (len(config.channel_multiplier) - 1)
        super().__init__(config, network=self.new_network(config.library_arguments()), image_size=config.num_patches * stride)

    @property
    def stride(self) -> int:
        return int(2 ** (len(self.config.channel_multiplier) - 1))

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Codes (B, h, w, D) -> (B, 3, h * stride, w * stride)."""
        pixels: Tensor = self.decoder(self.post_quant_conv(F.normalize(latents, dim=-1).permute(0, 3, 1, 2)))
        return (pixels + 1) / 2
