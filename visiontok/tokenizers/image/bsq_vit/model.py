"""BSQ-ViT (Zhao et al. 2024, arXiv 2406.07548): a ViT whose every patch becomes the signs of a few channels on the unit sphere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.core.tokenizer import Tokenizer
from visiontok.layers.vit import ViTConfig
from visiontok.quantizers.binary import BinaryQuantizer, BinaryQuantizerConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.image.bsq_vit.decoder import GridViTDecoder
from visiontok.tokenizers.image.bsq_vit.encoder import GridViTEncoder
from visiontok.tokenizers.image.bsq_vit.reference import KEY_MAP, convert_weights, read_config, spherical
from visiontok.tokens.grid import grid_layout


class BsqVitConfig(Config):
    """Sizes of the model; the defaults are the released 18-bit model.

    Attributes:
        image_size: side of the square image in pixels; the position tables are absolute, so no other size is taken.
        encoder, decoder: sizes of the two ViTs.
        head_dim: dimension of the decoder's last hidden layer.
        quantizer: a binary one.
        pixel_range: what black and white are to the model; reconstructions are clamped to it.
    """

    image_size: Positive = 256
    encoder: ViTConfig = ViTConfig(dim=768, depth=12, num_heads=12, patch_size=8)
    decoder: ViTConfig = ViTConfig(dim=768, depth=12, num_heads=12, patch_size=8)
    head_dim: Positive = 3072
    quantizer: BinaryQuantizerConfig = BinaryQuantizerConfig(**spherical(18))
    pixel_range: tuple[float, float] = (-1.0, 1.0)

    @model_validator(mode="after")
    def _check(self) -> BsqVitConfig:
        if self.encoder.patch_size != self.decoder.patch_size or self.image_size % self.encoder.patch_size:
            raise ValueError(
                f"patches of {self.encoder.patch_size} (encoder) and {self.decoder.patch_size} pixels (decoder) must be equal "
                f"and divide an image of {self.image_size}"
            )
        if self.quantizer.num_bits is not None:
            raise ValueError("the ViTs end and begin with the linear layers of the quantizer: omit quantizer.num_bits")
        if not self.pixel_range[0] < self.pixel_range[1]:
            raise ValueError(f"pixel_range {self.pixel_range} must rise")
        return self


class BsqVit(Tokenizer[BsqVitConfig]):
    """Plain ViT encoder, binary spherical quantization, plain ViT decoder."""

    config_class = BsqVitConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: BsqVitConfig) -> None:
        super().__init__(config)
        bits = config.quantizer.dim
        self.encoder = GridViTEncoder(config.encoder, image_size=config.image_size, latent_dim=bits)
        self.quantizer: BinaryQuantizer = config.quantizer.build()
        self.decoder = GridViTDecoder(config.decoder, image_size=config.image_size, latent_dim=bits, head_dim=config.head_dim)
        self.preprocessing = ImagePreprocessing(size=config.image_size, interpolation="lanczos")
        patch = config.encoder.patch_size
        self.layout = grid_layout((config.image_size // patch,) * 2, stride=patch, vocab_size=config.quantizer.vocab_size)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> (B, h, w, D), not yet on the sphere."""
        low, high = self.config.pixel_range
        return self.encoder(signal * (high - low) + low)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, 3, S, S)."""
        low, high = self.config.pixel_range
        return (self.decoder(latents) - low) / (high - low)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names."""
        return convert_weights(state_dict)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> BsqVitConfig:
        """From the arguments of the authors' `VITBSQModel`, or from their whole file, which has them under `model.params`."""
        return BsqVitConfig.parse(read_config(config), source="the BSQ-ViT reference configuration")
