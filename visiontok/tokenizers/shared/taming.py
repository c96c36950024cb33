"""What the tokenizers on the first VQGAN's nets (Esser et al. 2021, arXiv 2012.09841) share: LlamaGen's, IBQ's, and those with any quantizer.

Images in [-1, 1] inside; a convolutional encoder and decoder, each with a 1x1 convolution to or from the narrow latents of the quantizer.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.core.tokenizer import Tokenizer
from visiontok.decoders.conv import ConvDecoder
from visiontok.encoders.conv import ConvEncoder
from visiontok.layers.conv import TamingNetConfig
from visiontok.quantizers.binary import BinaryQuantizerConfig
from visiontok.quantizers.finite_scalar import FiniteScalarQuantizerConfig
from visiontok.quantizers.index_backprop import IndexBackpropQuantizerConfig
from visiontok.quantizers.sim_vq import SimVectorQuantizerConfig
from visiontok.quantizers.vector import VectorQuantizerConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokens.grid import grid_layout


class TamingConfig(Config):
    """Sizes of the model.

    Attributes:
        image_size: side that files are resized and cropped to; tensors of any multiple of the stride are taken as they are.
        encoder, decoder: the two nets; `latent_channels` are the channels between net and 1x1 convolution.
        quantizer: its `dim` are the channels between the 1x1 convolutions.
    """

    image_size: Positive = 256
    encoder: TamingNetConfig
    decoder: TamingNetConfig
    quantizer: Annotated[
        VectorQuantizerConfig | SimVectorQuantizerConfig | IndexBackpropQuantizerConfig | FiniteScalarQuantizerConfig | BinaryQuantizerConfig,
        Field(discriminator="type"),
    ]

    @model_validator(mode="after")
    def _check(self) -> TamingConfig:
        if self.encoder.stride != self.decoder.stride:
            raise ValueError(f"the encoder's stride {self.encoder.stride} is not the decoder's {self.decoder.stride}: give both as many levels")
        if self.image_size % self.encoder.stride:
            raise ValueError(f"an image of {self.image_size} pixels is no multiple of the stride {self.encoder.stride}")
        if isinstance(self.quantizer, BinaryQuantizerConfig) and self.quantizer.num_bits is not None:
            raise ValueError("1x1 convolutions lead to the quantizer's channels and back: omit quantizer.num_bits")
        return self

    @property
    def vocab_size(self) -> int | tuple[int, ...]:
        """Number of codes; a tuple where a position may have several token indices."""
        return self.quantizer.vocab_size if isinstance(self.quantizer, BinaryQuantizerConfig) else self.quantizer.codebook_size


ConfigT = TypeVar("ConfigT", bound=TamingConfig)


class TamingTokenizer(Tokenizer[ConfigT]):
    """Encoder, 1x1 convolution, quantizer, 1x1 convolution, decoder."""

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self.encoder = ConvEncoder(config.encoder)
        self.quant_conv = nn.Conv2d(config.encoder.latent_channels, config.quantizer.dim, 1)
        self.quantizer = config.quantizer.build()
        self.post_quant_conv = nn.Conv2d(config.quantizer.dim, config.decoder.latent_channels, 1)
        self.decoder = ConvDecoder(config.decoder)
        stride = config.encoder.stride
        self.preprocessing = ImagePreprocessing(size=config.image_size, tensors_keep_size=True, multiple_of=stride)
        self.layout = grid_layout((config.image_size // stride,) * 2, stride=stride, vocab_size=config.vocab_size)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, H / stride, W / stride, D)."""
        return self.quant_conv(self.encoder(signal * 2 - 1)).permute(0, 2, 3, 1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, 3, h * stride, w * stride)."""
        return (self.decoder(self.post_quant_conv(latents.permute(0, 3, 1, 2))) + 1) / 2
