"""TiTok (Yu et al. 2024, "An Image is Worth 32 Tokens"): a ViT that writes an image into a few latent tokens, and one that reads them.

Three variants, by `head` and `pixel_decoder`: the single-stage model predicts pixels; the first-stage model predicts the codes of MaskGIT's VQGAN;
the second-stage model sends those predictions, softly, through the VQGAN's decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn

from visiontok.base.config import Positive
from visiontok.base.errors import TokenError
from visiontok.core.tokenizer import Tokenizer
from visiontok.decoders.conv import ConvDecoder
from visiontok.decoders.vit import CodeHead, LatentViTDecoder, PixelHead
from visiontok.encoders.vit import LatentRead, LatentViTEncoder
from visiontok.layers.conv import ConvNetConfig
from visiontok.quantizers.base import expected_code
from visiontok.quantizers.continuous import GaussianBottleneckConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.image.titok.reference import KEY_MAP, read_config, with_linear_layers
from visiontok.tokenizers.shared.latent_vit import LatentViTConfig


class TiTokConfig(LatentViTConfig):
    """Sizes and variant of a TiTok.

    Attributes:
        latent_read: how latents are read from the encoder's outputs; see `LatentViTEncoder`.
        head: what the decoder predicts: "pixels", or "codes" of MaskGIT's VQGAN.
        num_teacher_codes: codebook size of that VQGAN.
        pixel_decoder: sizes of the VQGAN decoder of a second-stage model; None otherwise.
    """

    latent_read: LatentRead = "per_token"
    head: Literal["pixels", "codes"] = "pixels"
    num_teacher_codes: Positive = 1024
    pixel_decoder: ConvNetConfig | None = None

    @model_validator(mode="after")
    def _check_variant(self) -> TiTokConfig:
        if self.pixel_decoder is not None and self.head != "codes":
            raise ValueError('a pixel_decoder reads predicted codes: it needs head "codes"')
        if isinstance(self.quantizer, GaussianBottleneckConfig) and self.head == "codes":
            raise ValueError('continuous latents are trained in one stage: a "gaussian" quantizer needs head "pixels"')
        return self


class TiTok(Tokenizer[TiTokConfig]):
    """Latent-query ViT encoder, quantizer over N tokens, mask-token ViT decoder."""

    config_class = TiTokConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__(config)
        sizes: dict[str, Any] = {"image_size": config.image_size, "num_latent_tokens": config.num_latent_tokens}
        self.encoder = LatentViTEncoder(config.encoder, **sizes, latent_dim=config.encoder_channels, latent_read=config.latent_read)
        self.quantizer = config.quantizer.build()
        self.decoder = LatentViTDecoder(config.decoder, **sizes, latent_dim=config.quantizer.dim)
        self.head = (
            PixelHead(config.decoder.dim, config.decoder.patch_size)
            if config.head == "pixels"
            else CodeHead(config.decoder.dim, config.num_teacher_codes)
        )
        self.pixel_codebook: nn.Parameter | None = None
        self.pixel_decoder: ConvDecoder | None = None
        if config.pixel_decoder is not None:
            self.pixel_codebook = nn.Parameter(torch.randn(config.num_teacher_codes, config.pixel_decoder.latent_channels))
            self.pixel_decoder = ConvDecoder(config.pixel_decoder)
        self.preprocessing = ImagePreprocessing(size=config.image_size)
        self.nested_dropout = config.nested_dropout
        self.layout = config.layout
        # A first-stage model predicts the codes of MaskGIT's VQGAN: `decode_latents(...).argmax(1)`, to be decoded there.
        self.can_decode = config.head == "pixels" or config.pixel_decoder is not None

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> (B, N, D), or (B, N, 2 D) posterior parameters."""
        return self.encoder(signal)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, N, D) -> image (B, 3, S, S), or for a first-stage model logits (B, num_teacher_codes, g, g) over the VQGAN's codes."""
        return self._predict(self.decoder(latents))

    def decode_prefix(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """The first latents of every sample (B, n <= N, D) -> what `decode_latents` gives."""
        return self._predict(self.decoder(latents, lengths))

    def _predict(self, features: Tensor) -> Tensor:
        predicted = self.head(features)
        return predicted if self.pixel_decoder is None else self.pixel_decoder(self.soft_pixel_latents(predicted))

    def soft_pixel_latents(self, logits: Tensor) -> Tensor:
        """Logits (B, num_teacher_codes, g, g) -> expected VQGAN codes (B, D_pixel, g, g).

        Raises:
            TokenError: for models without a pixel decoder.
        """
        if self.pixel_codebook is None:
            raise TokenError("this TiTok has no pixel decoder, so its logits cannot become VQGAN codes")
        return expected_code(logits.permute(0, 2, 3, 1).softmax(dim=-1), self.pixel_codebook).permute(0, 3, 1, 2)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names; their 1x1 convolutions over tokens are linear layers here."""
        return with_linear_layers(super().weights_from_reference(state_dict))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> TiTokConfig:
        """From the authors' nested configuration (`model.vq_model`, `dataset.preprocessing.crop_size`)."""
        return TiTokConfig.parse(read_config(config), source="the TiTok reference configuration")
