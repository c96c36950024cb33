"""WavTokenizer (Ji et al. 2024, arXiv 2408.16532): one code of 4096 per frame, from EnCodec's encoder, to a decoder of spectra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.encoders.seanet import SeanetEncoder
from visiontok.layers.seanet import SeanetConfig
from visiontok.quantizers import EmaConfig, ResidualQuantizer, VectorQuantizerConfig
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.audio.wavtokenizer.networks import NORM_GROUPS, DecoderConfig, WavTokenizerDecoder
from visiontok.tokenizers.audio.wavtokenizer.reference import KEY_MAP, fields_of, of_bandwidth
from visiontok.tokenizers.shared.codec import codec_layout
from visiontok.tokenizers.shared.seanet_codec import SeanetCodec


class WavTokenizerConfig(Config):
    """Sizes; the defaults are those of the models of 75 codes per second."""

    sample_rate: Positive = 24000
    encoder: SeanetConfig = SeanetConfig()
    quantizer: VectorQuantizerConfig = VectorQuantizerConfig(codebook_size=4096, dim=512, commitment_weight=1.0, ema=EmaConfig())
    decoder: DecoderConfig = DecoderConfig()

    @model_validator(mode="after")
    def _check(self) -> WavTokenizerConfig:
        if self.encoder.dim != self.quantizer.dim:
            raise ValueError(f"the encoder's latents have {self.encoder.dim} dimensions, the quantizer's {self.quantizer.dim}")
        if self.decoder.dim % NORM_GROUPS:
            raise ValueError(f"the decoder's dim {self.decoder.dim} is no multiple of {NORM_GROUPS}")
        if self.decoder.n_fft < self.encoder.hop or (self.decoder.n_fft - self.encoder.hop) % 2 or self.decoder.n_fft % 2:
            raise ValueError(f"n_fft {self.decoder.n_fft} and the hop {self.encoder.hop} must be even, and n_fft not smaller")
        return self


class WavTokenizer(SeanetCodec[WavTokenizerConfig]):
    """Mono. T samples become ceil(T / hop) frames. The decoder attends to the whole sound, and normalizes over it."""

    config_class = WavTokenizerConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: WavTokenizerConfig) -> None:
        super().__init__(config)
        hop = config.encoder.hop
        self.encoder = SeanetEncoder(config.encoder)
        self.quantizer = ResidualQuantizer(num_levels=1, quantizer=config.quantizer)
        self.decoder = WavTokenizerDecoder(config.quantizer.dim, config.decoder, hop=hop)
        self.preprocessing = AudioPreprocessing(sample_rate=config.sample_rate)
        self.layout = codec_layout(sample_rate=config.sample_rate, hop=hop, vocab_size=config.quantizer.codebook_size)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From `model.init_args` of the authors' yaml file."""
        return cls.config_class.parse(fields_of(config), source="WavTokenizer's configuration")

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Self:
        """See `Model`; of the norms of four bandwidths those of the first are read, as by the authors, or of the entry `_bandwidth_id`."""
        return super().from_reference(config, of_bandwidth(state_dict, int(config.get("_bandwidth_id", 0))))

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `SeanetCodec`; the pointwise convolutions of the attention become matrices."""
        weights = super().weights_from_reference(state_dict)
        return {name: tensor.flatten(1) if ".attn." in name and tensor.ndim == 3 else tensor for name, tensor in weights.items()}
