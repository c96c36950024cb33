"""TexTok (Zha et al. 2024, arXiv 2412.05796): text in the encoder and in the decoder, so that the tokens need to say only what the text does not.

No code and no weights of the authors are public, so this follows the paper's description and has no reference implementation. The paper says: two
ViT-B of 12 layers; an encoder over patches, N latent queries and text tokens, of whose outputs only those of the queries are kept and projected to 8
channels; a decoder over learned patch tokens, the N latents and the same text tokens; a frozen T5 encoder whose embeddings are projected linearly
(T5-XL for images of 256 pixels, T5-XXL for 512); 32 to 256 latents, continuous.

Chosen here, where the paper does not say: TA-TiTok's blocks, order of tokens, positions and pixel head; patches of 16 pixels; 128 text embeddings
with learned positions and a projection for each side; a Gaussian posterior as the bottleneck.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from visiontok.encoders.text import T5TextConfig, TextConfig
from visiontok.layers.vit import ViTConfig
from visiontok.quantizers.continuous import GaussianBottleneckConfig
from visiontok.quantizers.vector import VectorQuantizerConfig
from visiontok.tokenizers.image.tatitok.model import TaTiTok, TaTiTokConfig

VIT_B = ViTConfig(dim=768, depth=12, num_heads=12, patch_size=16)
"""The paper's size, with a patch that is our choice."""


class TexTokConfig(TaTiTokConfig):
    """Sizes of a TexTok; the defaults are the paper's for images of 256 pixels, as far as it gives them.

    Attributes:
        text: the embeddings that encoder and decoder read.
    """

    encoder: ViTConfig = VIT_B
    decoder: ViTConfig = VIT_B
    quantizer: Annotated[VectorQuantizerConfig | GaussianBottleneckConfig, Field(discriminator="type")] = GaussianBottleneckConfig(dim=8)
    text: TextConfig = TextConfig(length=128, dim=2048, encoder=T5TextConfig())


class TexTok(TaTiTok):
    """TA-TiTok whose encoder reads the text too. `encode` and `decode` must be given the same text."""

    config_class = TexTokConfig
    encoder_reads_text = True
