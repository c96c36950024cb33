"""MaskGIT's VQGAN (Chang et al. 2022): a convolutional tokenizer with a grid of 16 x 16 tokens; TiTok's and RAR's pixel tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.core.tokenizer import Tokenizer
from visiontok.decoders.conv import ConvDecoder
from visiontok.encoders.conv import ConvEncoder
from visiontok.layers.conv import ConvNetConfig
from visiontok.quantizers.vector import VectorQuantizer, VectorQuantizerConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.image.maskgit_vqgan.reference import KEY_MAP, read_config
from visiontok.tokens.grid import grid_layout


class MaskGitVqganConfig(Config):
    """Sizes of the model.

    Attributes:
        image_size: side that files are resized and cropped to; tensors of any multiple of the stride are taken as they are.
        net: encoder and decoder.
        quantizer: codebook; its `dim` equals the net's latent channels.
    """

    image_size: Positive = 256
    net: ConvNetConfig = ConvNetConfig()
    quantizer: VectorQuantizerConfig = VectorQuantizerConfig(codebook_size=1024, dim=256, commitment_weight=1.0, codebook_weight=0.25)

    @model_validator(mode="after")
    def _check(self) -> MaskGitVqganConfig:
        if self.quantizer.dim != self.net.latent_channels:
            raise ValueError(f"quantizer.dim {self.quantizer.dim} must equal net.latent_channels {self.net.latent_channels}")
        return self


class MaskGitVqgan(Tokenizer[MaskGitVqganConfig]):
    """Convolutional encoder, nearest code without normalization, convolutional decoder. Images and reconstructions in [0, 1]."""

    config_class = MaskGitVqganConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: MaskGitVqganConfig) -> None:
        super().__init__(config)
        self.encoder = ConvEncoder(config.net)
        self.quantizer: VectorQuantizer = config.quantizer.build()
        self.decoder = ConvDecoder(config.net)
        self.preprocessing = ImagePreprocessing(size=config.image_size, tensors_keep_size=True, multiple_of=config.net.stride)
        side = config.image_size // config.net.stride
        self.layout = grid_layout((side, side), stride=config.net.stride, vocab_size=config.quantizer.codebook_size)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, H / stride, W / stride, D)."""
        return self.encoder(signal).permute(0, 2, 3, 1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, 3, h * stride, w * stride)."""
        return self.decoder(latents.permute(0, 3, 1, 2))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> MaskGitVqganConfig:
        """From the authors' sizes: channel_mult, hidden_channels, num_res_blocks, z_channels, num_embeddings, embedding_dim, ..."""
        return MaskGitVqganConfig.parse(read_config(config), source="the MaskGIT-VQGAN reference configuration")
