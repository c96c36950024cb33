"""TA-TiTok (Kim et al. 2025, arXiv 2501.07730): a single-stage TiTok whose decoder also reads a text that describes the image.

The encoder is TiTok's. The decoder's sequence is [class | mask tokens | latents | text]: the latents need not encode what the text says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from visiontok.core.tokenizer import Tokenizer
from visiontok.decoders.vit import LatentViTDecoder, PixelHead
from visiontok.encoders.text import TextConfig
from visiontok.encoders.vit import LatentViTEncoder
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.image.tatitok.reference import KEY_MAP, read_config
from visiontok.tokenizers.image.titok.reference import with_linear_layers
from visiontok.tokenizers.shared.latent_vit import LatentViTConfig


class TaTiTokConfig(LatentViTConfig):
    """Sizes of a TA-TiTok.

    Attributes:
        text: the embeddings that the decoder reads: 77 of 768 channels, the last layer of CLIP ViT-L/14 (336 pixels), in the released models.
    """

    text: TextConfig = TextConfig()


class TaTiTok(Tokenizer[TaTiTokConfig]):
    """Latent-query ViT encoder, quantizer over N tokens, mask-token ViT decoder with text."""

    config_class = TaTiTokConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: TaTiTokConfig) -> None:
        super().__init__(config)
        sizes: dict[str, Any] = {"image_size": config.image_size, "num_latent_tokens": config.num_latent_tokens}
        self.text = config.text
        self.encoder = LatentViTEncoder(
            config.encoder, **sizes, latent_dim=config.encoder_channels, text_shape=self.text.shape if self.encoder_reads_text else None
        )
        self.quantizer = config.quantizer.build()
        self.decoder = LatentViTDecoder(config.decoder, **sizes, latent_dim=config.quantizer.dim, text_shape=self.text.shape)
        self.head = PixelHead(config.decoder.dim, config.decoder.patch_size)
        self.preprocessing = ImagePreprocessing(size=config.image_size)
        self.nested_dropout = config.nested_dropout
        self.layout = config.layout

    def encode_latents(self, signal: Tensor, text: Tensor | None = None) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> (B, N, D), or (B, N, 2 D) posterior parameters."""
        return self.encoder(signal, text)

    def decode_latents(self, latents: Tensor, text: Tensor | None = None) -> Tensor:
        """(B, N, D) and a text (B, T, E) -> image (B, 3, S, S), not clamped."""
        return self.head(self.decoder(latents, text=text))

    def decode_prefix(self, latents: Tensor, lengths: Tensor, text: Tensor | None = None) -> Tensor:
        """The first latents of every sample (B, n <= N, D) and a text (B, T, E) -> image (B, 3, S, S), not clamped."""
        return self.head(self.decoder(latents, lengths, text))

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names."""
        return with_linear_layers(super().weights_from_reference(state_dict))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> TaTiTokConfig:
        """From the authors' nested configuration, as TiTok's; `text_encoder`, which is not in theirs, names the text encoder."""
        return TaTiTokConfig.parse(read_config(config), source="the TA-TiTok reference configuration")
