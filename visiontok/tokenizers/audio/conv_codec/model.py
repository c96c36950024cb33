"""SEANet's networks with any quantizer: for training codecs, and for comparing quantizers of sound when everything else stays equal."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from visiontok.base.config import Config, Positive
from visiontok.decoders.seanet import SeanetDecoder
from visiontok.encoders.seanet import SeanetEncoder
from visiontok.layers.seanet import SeanetConfig
from visiontok.quantizers import (
    FactorizedResidualQuantizerConfig,
    FiniteScalarQuantizerConfig,
    ResidualQuantizerConfig,
    VectorQuantizerConfig,
)
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.shared.codec import codec_layout
from visiontok.tokenizers.shared.seanet_codec import SeanetCodec


class ConvCodecConfig(Config):
    """Sizes.

    Attributes:
        sample_rate: in Hz.
        networks: of the encoder, and of the decoder that mirrors it.
        quantizer: of the latents of every frame; its `dim` is that of the networks.
    """

    sample_rate: Positive = 16000
    networks: SeanetConfig = SeanetConfig()
    quantizer: Annotated[
        ResidualQuantizerConfig | FactorizedResidualQuantizerConfig | VectorQuantizerConfig | FiniteScalarQuantizerConfig,
        Field(discriminator="type"),
    ]

    @model_validator(mode="after")
    def _check(self) -> ConvCodecConfig:
        if self.networks.dim != self.quantizer.dim:
            raise ValueError(f"the encoder's latents have {self.networks.dim} dimensions, the quantizer's {self.quantizer.dim}")
        return self

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codes of every level."""
        if isinstance(self.quantizer, ResidualQuantizerConfig | FactorizedResidualQuantizerConfig):
            return self.quantizer.codebook_sizes
        return (self.quantizer.codebook_size,)


class ConvCodec(SeanetCodec[ConvCodecConfig]):
    """Mono. T samples become ceil(T / hop) frames. There are no released weights."""

    config_class = ConvCodecConfig

    def __init__(self, config: ConvCodecConfig) -> None:
        super().__init__(config)
        sizes = config.codebook_sizes
        self.encoder = SeanetEncoder(config.networks)
        self.quantizer = config.quantizer.build()
        self.decoder = SeanetDecoder(config.networks)
        self.preprocessing = AudioPreprocessing(sample_rate=config.sample_rate)
        self.layout = codec_layout(
            sample_rate=config.sample_rate,
            hop=config.networks.hop,
            vocab_size=sizes if len(sizes) > 1 else sizes[0],
            num_levels=len(sizes),
        )
