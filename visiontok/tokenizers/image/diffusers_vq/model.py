"""diffusers' `VQModel`: the tokenizer of aMUSEd, of unconditional latent diffusion, and Kandinsky's MoVQ."""

from __future__ import annotations

from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import model_validator
from torch import Tensor, nn

from visiontok.base.config import Positive
from visiontok.tokenizers.shared.library_grid import LibraryGridVq
from visiontok.tokenizers.shared.library_model import LibraryConfig

DownBlock = Literal["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]
UpBlock = Literal["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]


class DiffusersVqConfig(LibraryConfig):
    """Arguments of `VQModel`, by its names; `image_size` is the side that files are resized and cropped to, None for `sample_size`.

    Released files often leave `sample_size` at 32, which is no size of an image.
    """

    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    down_block_types: tuple[DownBlock, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[UpBlock, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[Positive, ...] = (64,)
    layers_per_block: Positive = 1
    act_fn: str = "silu"
    latent_channels: Positive = 3
    sample_size: Positive = 32
    num_vq_embeddings: Positive = 256
    norm_num_groups: Positive = 32
    vq_embed_dim: Positive | None = None
    norm_type: Literal["group", "spatial"] = "group"
    mid_block_add_attention: bool = True
    image_size: Positive | None = None

    @model_validator(mode="after")
    def _check(self) -> DiffusersVqConfig:
        if not len(self.block_out_channels) == len(self.down_block_types) == len(self.up_block_types):
            raise ValueError("block_out_channels, down_block_types and up_block_types must be of one length")
        if self.norm_type == "spatial" and self.vq_embed_dim not in (None, self.latent_channels):
            raise ValueError(f"spatial norms read codes of latent_channels: vq_embed_dim {self.vq_embed_dim} must be {self.latent_channels}")
        return self

    @classmethod
    def added_fields(cls) -> frozenset[str]:
        """What `VQModel` does not know."""
        return frozenset({"image_size"})


class DiffusersVq(LibraryGridVq[DiffusersVqConfig]):
    """Nearest code without normalization; with `norm_type` "spatial" the decoder's norms read the codes too."""

    config_class = DiffusersVqConfig
    library: ClassVar = "diffusers"
    network_class: ClassVar = "VQModel"
    ignored_settings: ClassVar = MappingProxyType(
        {
            "scaling_factor": "only diffusion pipelines multiply latents by it",
            "force_upcast": "precision inside diffusion pipelines",
            "lookup_from_codebook": "whether VQModel.decode is given indices or latents; here the decoder always reads codes",
        }
    )

    decoder: nn.Module
    post_quant_conv: nn.Module

    def __init__(self, config: DiffusersVqConfig) -> None:
        network = self.new_network(config.library_arguments())
        super().__init__(config, network=network, image_size=config.image_size or config.sample_size)

    @property
    def stride(self) -> int:
        return int(2 ** (len(self.config.block_out_channels) - 1))

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Codes (B, h, w, D) -> (B, 3, h * stride, w * stride)."""
        codes = latents.permute(0, 3, 1, 2)
        pixels: Tensor = self.decoder(self.post_quant_conv(codes), codes if self.config.norm_type == "spatial" else None)
        return (pixels + 1) / 2
