"""Cosmos' tokenizers of images (NVIDIA 2025, arXiv 2501.03575): convolutions on wavelets, with finite scalar codes (DI) or without (CI)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.core.tokenizer import Tokenizer
from visiontok.decoders.conv import ConvDecoder
from visiontok.encoders.conv import ConvEncoder
from visiontok.layers.conv import TamingNetConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.image.cosmos_image.reference import KEY_MAP, SOURCE, convert_weights, read_config
from visiontok.tokenizers.shared.cosmos import BottleneckConfig, Patches, layout_kind
from visiontok.tokens.grid import grid_layout


class CosmosImageConfig(Config):
    """Sizes.

    Attributes:
        image_size: side of the square that files are resized and cropped to; None keeps their size. Tensors keep theirs.
        patches: of pixels, which become channels.
        encoder, decoder: the two networks on patches, which halve and double equally often.
        quantizer: codes (DI), latents as they are (CI), or a Gaussian posterior.
    """

    image_size: Positive | None = None
    patches: Patches = Patches()
    encoder: TamingNetConfig
    decoder: TamingNetConfig
    quantizer: BottleneckConfig

    @model_validator(mode="after")
    def _check(self) -> CosmosImageConfig:
        if self.encoder.stride != self.decoder.stride:
            raise ValueError(f"the encoder divides sides by {self.encoder.stride}, the decoder multiplies them by {self.decoder.stride}")
        if (self.image_size or 0) % self.stride:
            raise ValueError(f"an image of {self.image_size} pixels is no multiple of the stride {self.stride}")
        return self

    @property
    def stride(self) -> int:
        """Pixels per position along a side."""
        return self.patches.size * self.encoder.stride


class CosmosImage(Tokenizer[CosmosImageConfig]):
    """Encoder, 1x1 convolution, bottleneck, 1x1 convolution, decoder."""

    config_class = CosmosImageConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: CosmosImageConfig) -> None:
        super().__init__(config)
        channels, dim = config.patches.channels(axes=2), config.quantizer.dim
        self.encoder = ConvEncoder(config.encoder, image_channels=channels)
        self.quantizer = config.quantizer.build()
        self.quant_conv = nn.Conv2d(config.encoder.latent_channels, self.quantizer.input_dim or dim, 1)
        self.post_quant_conv = nn.Conv2d(dim, config.decoder.latent_channels, 1)
        self.decoder = ConvDecoder(config.decoder, image_channels=channels)
        self.preprocessing = ImagePreprocessing(size=config.image_size, tensors_keep_size=True, multiple_of=config.stride)
        shape = tuple(side // config.stride for side in self.preprocessing.usual_size)
        self.layout = grid_layout(shape, stride=config.stride, **layout_kind(config.quantizer))

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, H / stride, W / stride, D)."""
        return self.quant_conv(self.encoder(self.config.patches.of(signal * 2 - 1))).permute(0, 2, 3, 1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, 3, h * stride, w * stride)."""
        return (self.config.patches.inverse(self.decoder(self.post_quant_conv(latents.permute(0, 3, 1, 2)))) + 1) / 2

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> CosmosImageConfig:
        """From the arguments of the authors' network."""
        return CosmosImageConfig.parse(read_config(config), source=SOURCE)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names."""
        return convert_weights(state_dict)
