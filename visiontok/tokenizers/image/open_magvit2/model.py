"""Open-MAGVIT2 (Luo et al. 2024, arXiv 2409.04410): a convolutional tokenizer whose 18 channels become signs, 2^18 codes without a codebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.core.tokenizer import Tokenizer
from visiontok.decoders.conv import ConvDecoder
from visiontok.encoders.conv import ConvEncoder
from visiontok.layers.conv import ConvNetConfig, Shortcut
from visiontok.layers.resampling import Downsampling, Upsampling
from visiontok.quantizers.binary import BinaryQuantizer, BinaryQuantizerConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.image.open_magvit2.reference import KEY_MAP, SOURCE, read_config
from visiontok.tokenizers.shared.moving_average import averaged_weights, last_weights
from visiontok.tokenizers.shared.taming_objective import model_arguments
from visiontok.tokens.grid import grid_layout


class OpenMagvit2NetConfig(ConvNetConfig):
    """No attention, learned resampling, and norms of the decoder that read the code; the defaults are the released 16 x 16 model's sizes."""

    num_res_blocks: Positive = 4
    latent_channels: Positive = 18
    shortcut: Shortcut = "input"
    downsample: Downsampling = "conv"
    upsample: Upsampling = "depth_to_space"
    adaptive_norm: Literal[True] = True


class OpenMagvit2Config(Config):
    """Sizes of the model.

    Attributes:
        image_size: side that files are resized and cropped to; tensors of any multiple of the stride are taken as they are.
        net: encoder and decoder.
        quantizer: lookup-free; as many bits as the net has latent channels. With `chunks`, a position has several token indices.
    """

    image_size: Positive = 256
    net: OpenMagvit2NetConfig = OpenMagvit2NetConfig()
    quantizer: BinaryQuantizerConfig = BinaryQuantizerConfig(dim=18)

    @model_validator(mode="after")
    def _check(self) -> OpenMagvit2Config:
        if self.quantizer.dim != self.net.latent_channels:
            raise ValueError(f"a quantizer of {self.quantizer.dim} channels cannot read {self.net.latent_channels} latent_channels: make them equal")
        if self.image_size % self.net.stride:
            raise ValueError(f"an image of {self.image_size} pixels is no multiple of the stride {self.net.stride}")
        return self


class OpenMagvit2(Tokenizer[OpenMagvit2Config]):
    """Convolutional encoder, lookup-free quantization, convolutional decoder modulated by the code."""

    config_class = OpenMagvit2Config
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: OpenMagvit2Config) -> None:
        super().__init__(config)
        self.encoder = ConvEncoder(config.net)
        self.quantizer: BinaryQuantizer = config.quantizer.build()
        self.decoder = ConvDecoder(config.net)
        stride = config.net.stride
        self.preprocessing = ImagePreprocessing(size=config.image_size, interpolation="bilinear", tensors_keep_size=True, multiple_of=stride)
        self.layout = grid_layout((config.image_size // stride,) * 2, stride=stride, vocab_size=config.quantizer.vocab_size)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, H / stride, W / stride, D)."""
        return self.encoder(signal * 2 - 1).permute(0, 2, 3, 1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, 3, h * stride, w * stride).

        Raises:
            SignalError: for a grid of one position, which has no variance for the decoder's norms to read.
        """
        return (self.decoder(latents.permute(0, 3, 1, 2)) + 1) / 2

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Self:
        """Like `Model.from_reference`, with the moving averages of the weights where the configuration says `use_ema`."""
        weights = averaged_weights(state_dict) if model_arguments(config, source=SOURCE).get("use_ema", False) else last_weights(state_dict)
        return super().from_reference(config, weights)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> OpenMagvit2Config:
        """From the arguments of the authors' `VQModel`: ddconfig, n_embed, embed_dim, the weights of the entropy terms, use_ema, ..."""
        return OpenMagvit2Config.parse(read_config(config), source="the Open-MAGVIT2 reference configuration")
