"""Emu3's tokenizer (BAAI 2024) with transformers' `Emu3VQVAE`, which reads clips; what its image and its video form share."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Positive
from visiontok.tokenizers.shared.library_model import LibraryConfig
from visiontok.tokenizers.shared.library_vq import LibraryVq


class Emu3VqConfig(LibraryConfig):
    """Fields of `Emu3VQVAEConfig`, by its names.

    Attributes:
        image_size: side of the square that files are resized and cropped to.
        num_frames: frames of the clips that the video form's layout describes; it takes any multiple of the temporal factor.
    """

    codebook_size: Positive = 32768
    embed_dim: Positive = 4
    latent_channels: Positive = 4
    double_latent: Literal[False] = False
    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    temporal_downsample_factor: Positive = 4
    base_channels: Positive = 256
    channel_multiplier: tuple[Positive, ...] = (1, 2, 2, 4)
    num_res_blocks: Positive = 2
    attn_resolutions: tuple[int, ...] = (3,)
    hidden_size: Positive = 1024
    num_attention_heads: Positive = 1
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    image_size: Positive = 512
    num_frames: Positive = 4

    @model_validator(mode="after")
    def _check(self) -> Emu3VqConfig:
        if self.num_frames % self.temporal_downsample_factor:
            raise ValueError(f"{self.num_frames} frames are no multiple of the temporal factor {self.temporal_downsample_factor}")
        return self

    @classmethod
    def added_fields(cls) -> frozenset[str]:
        """What transformers does not know."""
        return frozenset({"image_size", "num_frames"})

    @property
    def stride(self) -> int:
        """Pixels per token along a side."""
        return int(2 ** (len(self.channel_multiplier) - 1))


class Emu3Networks(LibraryVq[Emu3VqConfig]):
    """Encoder and decoder of clips. For inference: transformers' networks overwrite what gradients would need."""

    config_class = Emu3VqConfig
    library: ClassVar = "transformers"
    network_class: ClassVar = "Emu3VQVAE"
    network_config_class: ClassVar = "Emu3VQVAEConfig"

    encoder: nn.Module
    decoder: nn.Module
    quant_conv: nn.Module
    post_quant_conv: nn.Module

    def __init__(self, config: Emu3VqConfig) -> None:
        super().__init__(config, network=self.new_network(config.library_arguments()))

    @property
    def stride(self) -> int:
        return self.config.stride

    def encode_clip(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, T / factor, H / stride, W / stride, D)."""
        latents: Tensor = self.encoder(clip.transpose(1, 2) * 2 - 1)
        latents = self.quant_conv(latents.transpose(1, 2))
        return latents.permute(0, 2, 3, 4, 1)

    def decode_clip(self, latents: Tensor) -> Tensor:
        """Codes (B, t, h, w, D) -> (B, 3, t * factor, h * stride, w * stride), about [0, 1]."""
        codes = latents.permute(0, 4, 1, 2, 3)
        pixels: Tensor = self.decoder(self.post_quant_conv(codes).transpose(1, 2), codes.transpose(1, 2))
        return (pixels.unflatten(0, (len(latents), -1)).transpose(1, 2) + 1) / 2
