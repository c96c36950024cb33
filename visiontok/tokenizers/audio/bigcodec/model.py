"""BigCodec (Xin et al. 2024, arXiv 2409.05377): a large convolutional codec of speech with LSTMs and one factorized codebook."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator
from torch import Tensor, nn
from torch.nn.functional import pad

from visiontok.base.config import Config, Positive
from visiontok.core.weight_norm import folded
from visiontok.quantizers import FactorizedResidualQuantizer, FactorizedResidualQuantizerConfig
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.audio.bigcodec.networks import NetConfig, decoder, encoder
from visiontok.tokenizers.audio.bigcodec.reference import KEY_MAP, fields_of
from visiontok.tokenizers.shared.codec import Codec, codec_layout


class BigCodecConfig(Config):
    """Sizes; the defaults are those of the released model.

    Attributes:
        sample_rate: in Hz.
        encoder, decoder: networks with the same hop.
        quantizer: of the latents; its `dim` is that of both networks.
    """

    sample_rate: Positive = 16000
    encoder: NetConfig = NetConfig()
    decoder: NetConfig = NetConfig(strides=(5, 5, 2, 2, 2))
    quantizer: FactorizedResidualQuantizerConfig = FactorizedResidualQuantizerConfig(codebook_sizes=(8192,), dim=1024)

    @model_validator(mode="after")
    def _check(self) -> BigCodecConfig:
        if math.prod(self.encoder.strides) != math.prod(self.decoder.strides):
            raise ValueError(f"the strides {self.encoder.strides} of the encoder and {self.decoder.strides} of the decoder have different products")
        return self

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.encoder.strides)


class BigCodec(Codec[BigCodecConfig]):
    """Mono. At least one sample of silence is appended, up to whole frames, as published: T samples become T // hop + 1 frames."""

    config_class = BigCodecConfig
    reference_keys: ClassVar = KEY_MAP

    encoder: nn.Sequential
    quantizer: FactorizedResidualQuantizer
    decoder: nn.Sequential

    def __init__(self, config: BigCodecConfig) -> None:
        super().__init__(config)
        self.encoder = encoder(config.encoder, config.quantizer.dim)
        self.quantizer = config.quantizer.build()
        self.decoder = decoder(config.decoder, config.quantizer.dim)
        self.preprocessing = AudioPreprocessing(sample_rate=config.sample_rate)
        sizes = config.quantizer.codebook_sizes
        self.layout = codec_layout(sample_rate=config.sample_rate, hop=config.hop, vocab_size=sizes, num_levels=len(sizes))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From the arguments of the authors' two networks: `codec_encoder`, `codec_decoder` and `sample_rate`."""
        return BigCodecConfig.parse(fields_of(config), source="BigCodec's configuration")

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names, with weight normalization folded."""
        return super().weights_from_reference(folded(state_dict))

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 1, T) -> (B, T // hop + 1, D)."""
        latents: Tensor = self.encoder(pad(signal, (0, self.hop - signal.shape[-1] % self.hop)))
        return latents.transpose(1, 2)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, frames, D) -> (B, 1, frames * hop)."""
        sound: Tensor = self.decoder(latents.transpose(1, 2))
        return sound
