"""Chameleon's image tokenizer (Meta 2024) with transformers' `ChameleonVQVAE`. It only encodes: transformers has no decoder for it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from visiontok.base.config import Positive
from visiontok.tokenizers.shared.library_grid import LibraryGridVq
from visiontok.tokenizers.shared.library_model import LibraryConfig

RESCALE = 0.0078 * 255
"""transformers' image processor multiplies 8-bit values by 0.0078, not by 2 / 255, before it subtracts 1."""


class ChameleonVqConfig(LibraryConfig):
    """Fields of `ChameleonVQVAEConfig`, by its names; `resolution` is also the side that files are resized and cropped to."""

    embed_dim: Positive = 256
    num_embeddings: Positive = 8192
    double_latent: Literal[False] = False
    latent_channels: Positive = 256
    resolution: Positive = 512
    in_channels: Literal[3] = 3
    base_channels: Positive = 128
    channel_multiplier: tuple[Positive, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: Positive = 2
    attn_resolutions: tuple[Positive, ...] | None = None
    dropout: float = Field(default=0.0, ge=0, lt=1)
    attn_type: Literal["vanilla"] | None = "vanilla"


class ChameleonVq(LibraryGridVq[ChameleonVqConfig]):
    """Convolutional encoder and codebook. It only encodes."""

    config_class = ChameleonVqConfig
    can_decode = False
    library: ClassVar = "transformers"
    network_class: ClassVar = "ChameleonVQVAE"
    network_config_class: ClassVar = "ChameleonVQVAEConfig"

    def __init__(self, config: ChameleonVqConfig) -> None:
        network = self.new_network(config.library_arguments())
        super().__init__(config, network=network, image_size=config.resolution, interpolation="lanczos")

    @property
    def stride(self) -> int:
        return int(2 ** (len(self.config.channel_multiplier) - 1))

    def normalize(self, signal: Tensor) -> Tensor:
        """As transformers' image processor does."""
        return signal * RESCALE - 1
