"""SigLIP (Zhai et al. 2023, arXiv 2303.15343) of transformers and LLaVA's projector: frames to vectors of a language model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Positive
from visiontok.base.optional import import_optional_class
from visiontok.tokenizers.shared.library_model import LibraryConfig


class SiglipConfig(LibraryConfig):
    """Fields of transformers' `SiglipVisionConfig`, by its names; the defaults are those of siglip-so400m-patch14-384 without its last layer."""

    hidden_size: Positive = 1152
    intermediate_size: Positive = 4304
    num_hidden_layers: Positive = 26
    num_attention_heads: Positive = 16
    image_size: Positive = 384
    patch_size: Positive = 14
    num_channels: Literal[3] = 3
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-6

    @model_validator(mode="after")
    def _check(self) -> SiglipConfig:
        if self.image_size < self.patch_size:
            raise ValueError(f"an image of {self.image_size} pixels has no patch of {self.patch_size}")
        return self

    @property
    def side(self) -> int:
        """Patches along a side; pixels beyond whole patches are ignored."""
        return self.image_size // self.patch_size


class FrameEncoder(nn.Module):
    """Frames (F, 3, H, W) in [0, 1] -> (F, N, D): the transformer's output without a norm behind it, and an MLP.

    Args:
        config: of the vision transformer.
        dim: D of the language model.
    """

    def __init__(self, config: SiglipConfig, *, dim: int) -> None:
        super().__init__()
        arguments = {**config.library_arguments(), "vision_use_head": False}
        network_config = import_optional_class("transformers", "SiglipVisionConfig", extra="zoo")(**arguments)
        network = import_optional_class("transformers", "SiglipVisionModel", extra="zoo")(network_config)
        network = getattr(network, "vision_model", network)  # before transformers 5 one level deeper
        self.embeddings, self.layers = network.embeddings, network.encoder
        self.projector = nn.Sequential(nn.Linear(config.hidden_size, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, frames: Tensor) -> Tensor:
        projected: Tensor = self.projector(self.layers(inputs_embeds=self.embeddings(frames * 2 - 1)).last_hidden_state)
        return projected
