"""MaskGIT's VQGAN (Chang et al. 2022): a convolutional tokenizer with a grid of 16 x 16 ids; TiTok's and RAR's pixel tokenizer.

Reads top to bottom: configuration, model, and how the released weights map to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.tokenizer import Tokenizer
from visiontok.decoders.conv import ConvDecoder
from visiontok.encoders.conv import ConvEncoder
from visiontok.layers.conv import ConvNetConfig
from visiontok.quantizers.vector import VectorQuantizer, VectorQuantizerConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.shared.grid import grid_layout


class MaskGitVqganConfig(Config):
    """Sizes of the model.

    Attributes:
        image_size: side that files are resized and cropped to; tensors of any multiple of the stride are taken as they are.
        net: encoder and decoder.
        quantizer: codebook; its width equals the net's latent channels.
    """

    image_size: int = Field(default=256, gt=0)
    net: ConvNetConfig = ConvNetConfig()
    quantizer: VectorQuantizerConfig = VectorQuantizerConfig(codebook_size=1024, dim=256, commitment_weight=1.0, codebook_weight=0.25)

    @model_validator(mode="after")
    def _check(self) -> MaskGitVqganConfig:
        if self.quantizer.dim != self.net.latent_channels:
            raise ValueError(f"codes of width {self.quantizer.dim} cannot stand for {self.net.latent_channels} latent_channels: make them equal")
        return self


class MaskGitVqgan(Tokenizer[MaskGitVqganConfig]):
    """Convolutional encoder, nearest code without normalisation, convolutional decoder. Images and reconstructions in [0, 1]."""

    config_class = MaskGitVqganConfig
    reference_keys: ClassVar = KeyMap(
        {
            "encoder.conv_in.{*}": "encoder.conv_in.{*}",
            "encoder.down.{}.block.{}.nin_shortcut.{*}": "encoder.levels.{}.blocks.{}.shortcut.{*}",
            "encoder.down.{}.block.{}.{*}": "encoder.levels.{}.blocks.{}.{*}",
            "encoder.mid.{*}": "encoder.mid.{*}",
            "encoder.norm_out.{*}": "encoder.norm_out.{*}",
            "encoder.conv_out.{*}": "encoder.conv_out.{*}",
            **{f"decoder.{theirs}": f"decoder.{ours}" for theirs, ours in (
                ("conv_in.{*}", "conv_in.{*}"),
                ("mid.{*}", "mid.{*}"),
                ("up.{}.block.{}.nin_shortcut.{*}", "levels.{}.blocks.{}.shortcut.{*}"),
                ("up.{}.block.{}.{*}", "levels.{}.blocks.{}.{*}"),
                ("up.{}.upsample_conv.{*}", "levels.{}.upsample.conv.{*}"),
                ("norm_out.{*}", "norm_out.{*}"),
                ("conv_out.{*}", "conv_out.{*}"),
            )},
            "quantize.embedding.weight": "quantizer.codebook",
        }
    )  # fmt: skip

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
        known = {
            "channel_mult", "num_resolutions", "hidden_channels", "num_res_blocks", "resolution", "z_channels", "num_embeddings", "embedding_dim",
            "dropout", "num_channels", "commitment_cost",
        }  # fmt: skip
        if set(config) - known:
            raise ConfigError(f"unknown keys in a MaskGIT-VQGAN configuration: {sorted(set(config) - known)}; known: {sorted(known)}")
        channel_mult = config.get("channel_mult", [1, 1, 2, 2, 4])
        if config.get("num_channels", 3) != 3 or config.get("num_resolutions", len(channel_mult)) != len(channel_mult):
            raise ConfigError("a MaskGIT-VQGAN has 3 colour channels and one resolution per entry of channel_mult")
        net = {
            "channels": config.get("hidden_channels", 128),
            "channel_mult": channel_mult,
            "num_res_blocks": config.get("num_res_blocks", 2),
            "latent_channels": config.get("z_channels", 256),
        }
        quantizer = {
            "codebook_size": config.get("num_embeddings", 1024),
            "dim": config.get("embedding_dim", 256),
            "commitment_weight": 1.0,
            "codebook_weight": config.get("commitment_cost", 0.25),  # the authors' weight sits on the codebook term
        }
        values = {"image_size": config.get("resolution", 256), "net": net, "quantizer": quantizer}
        return MaskGitVqganConfig.parse(values, source="the MaskGIT-VQGAN reference configuration")
