"""What TiTok and the tokenizers built on it have in common: a ViT writes an image into N latents, another reads them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from visiontok.base.config import Config, Positive
from visiontok.layers.nested_dropout import NestedDropout
from visiontok.layers.vit import ViTConfig
from visiontok.quantizers.continuous import GaussianBottleneckConfig
from visiontok.quantizers.vector import VectorQuantizerConfig
from visiontok.tokens import Segment, TokenLayout


class LatentViTConfig(Config):
    """Sizes.

    Attributes:
        image_size: side of the square image in pixels; the position tables are absolute, so no other size is taken.
        num_latent_tokens: tokens per image.
        encoder, decoder: sizes of the two ViTs.
        quantizer: a codebook ("vq") or a Gaussian posterior ("gaussian").
        nested_dropout: how many latents the decoder sees at a training step, so that they order themselves and any prefix decodes; None for
            all of them, as published.
    """

    image_size: Positive = 256
    num_latent_tokens: Positive = 32
    encoder: ViTConfig
    decoder: ViTConfig
    quantizer: Annotated[VectorQuantizerConfig | GaussianBottleneckConfig, Field(discriminator="type")]
    nested_dropout: NestedDropout | None = None

    @model_validator(mode="after")
    def _check_sizes(self) -> LatentViTConfig:
        for name, vit in (("encoder", self.encoder), ("decoder", self.decoder)):
            if self.image_size % vit.patch_size:
                raise ValueError(f"{name}: patches of {vit.patch_size} pixels do not divide an image of {self.image_size}")
        return self

    @property
    def encoder_channels(self) -> int:
        """What the encoder gives per latent: the latent itself, or mean and log-variance of its posterior."""
        return self.quantizer.dim * (2 if isinstance(self.quantizer, GaussianBottleneckConfig) else 1)

    @property
    def layout(self) -> TokenLayout:
        """N tokens, or N continuous latents."""
        segment = (
            Segment(name="latents", shape=(self.num_latent_tokens,), channels=self.quantizer.dim)
            if isinstance(self.quantizer, GaussianBottleneckConfig)
            else Segment(name="latents", shape=(self.num_latent_tokens,), vocab_size=self.quantizer.codebook_size)
        )
        signal_shape = (self.image_size, self.image_size)
        return TokenLayout(
            modality="image", segments=(segment,), signal_shape=signal_shape, prefixes="none" if self.nested_dropout is None else "any"
        )
