"""The binary autoencoder of ELM (Liu et al. 2024, arXiv 2410.16257): a VQGAN's nets around 16 to 24 bits per position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.core.building import build_with_weights
from visiontok.core.tokenizer import Tokenizer
from visiontok.decoders.conv import ConvDecoder
from visiontok.encoders.conv import ConvEncoder
from visiontok.layers.conv import TamingNetConfig
from visiontok.quantizers.bernoulli import BernoulliQuantizerConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.image.elm_bae.reference import convert_weights, read_config
from visiontok.tokens.grid import grid_layout


class ElmBaeConfig(Config):
    """Sizes of the model; the defaults are the released ones with two token indices of 10 bits per position.

    Attributes:
        image_size: side that files are resized and cropped to; tensors of any multiple of the stride are taken as they are.
        encoder, decoder: the two nets; their `latent_channels` equal the quantizer's `dim`.
        quantizer: the bits; every chunk of them is one token index.
    """

    image_size: Positive = 256
    encoder: TamingNetConfig = TamingNetConfig(attention_levels=(4,), last_activation=False)
    decoder: TamingNetConfig = TamingNetConfig(attention_levels=(4,), last_activation=False, norm_latents=True)
    quantizer: BernoulliQuantizerConfig = BernoulliQuantizerConfig(dim=256, chunks=(10, 10))

    @model_validator(mode="after")
    def _check(self) -> ElmBaeConfig:
        widths = (self.encoder.latent_channels, self.quantizer.dim, self.decoder.latent_channels)
        if len(set(widths)) > 1:
            raise ValueError(f"latent_channels of the encoder, dim of the quantizer and latent_channels of the decoder must be equal, not {widths}")
        if self.encoder.stride != self.decoder.stride:
            raise ValueError(f"the encoder's stride {self.encoder.stride} is not the decoder's {self.decoder.stride}: give both as many levels")
        if self.image_size % self.encoder.stride:
            raise ValueError(f"an image of {self.image_size} pixels is no multiple of the stride {self.encoder.stride}")
        return self


class ElmBae(Tokenizer[ElmBaeConfig]):
    """Convolutional encoder, bits, convolutional decoder. Images in [0, 1] inside too.

    `encode` thresholds the bits and is reproducible; with noise it draws them, as the authors do wherever they encode.
    """

    config_class = ElmBaeConfig

    def __init__(self, config: ElmBaeConfig) -> None:
        super().__init__(config)
        self.encoder = ConvEncoder(config.encoder)
        self.quantizer = config.quantizer.build()
        self.decoder = ConvDecoder(config.decoder)
        stride = config.encoder.stride
        self.preprocessing = ImagePreprocessing(size=config.image_size, tensors_keep_size=True, multiple_of=stride)
        sizes = tuple(2**bits for bits in config.quantizer.chunks)  # one token per chunk of bits at every position
        self.layout = grid_layout((config.image_size // stride,) * 2, stride=stride, vocab_size=sizes)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, H / stride, W / stride, D)."""
        return self.encoder(signal).permute(0, 2, 3, 1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, 3, h * stride, w * stride)."""
        return self.decoder(latents.permute(0, 3, 1, 2))

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Self:
        """Like `Model.from_reference`; the authors number their blocks through, so that their names depend on the sizes."""
        ours = cls.config_from_reference(config, state_dict)
        weights = convert_weights(state_dict, ours.encoder, ours.decoder)
        return build_with_weights(lambda: cls(ours), weights, source="the reference checkpoint")

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> ElmBaeConfig:
        """From the authors' hyperparameters; `token_each` (or `_token_each`, 1) says how many token indices the bits of a position make."""
        return ElmBaeConfig.parse(read_config(config), source="the configuration of ELM's autoencoder")
