"""SpeechTokenizer (Zhang et al. 2023, arXiv 2308.16692): residual codes of speech whose first level is distilled from HuBERT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.decoders.seanet import SeanetDecoder
from visiontok.encoders.seanet import SeanetEncoder
from visiontok.layers.seanet import SeanetConfig
from visiontok.quantizers import EmaConfig, ResidualQuantizer, VectorQuantizerConfig
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.audio.speechtokenizer.reference import KEY_MAP, fields_of
from visiontok.tokenizers.shared.codec import codec_layout
from visiontok.tokenizers.shared.seanet_codec import SeanetCodec


class SpeechTokenizerConfig(Config):
    """Sizes; the defaults are those of `speechtokenizer-hubert-avg`.

    Attributes:
        sample_rate: in Hz.
        networks: of the encoder, and of the decoder that mirrors it.
        num_levels: residual levels.
        quantizer: of every level.
        semantic_dim: width of the features that the first level was distilled from.
    """

    sample_rate: Positive = 16000
    networks: SeanetConfig = SeanetConfig(channels=64, dim=1024, bidirectional=True)
    num_levels: Positive = 8
    quantizer: VectorQuantizerConfig = VectorQuantizerConfig(codebook_size=1024, dim=1024, commitment_weight=1.0, ema=EmaConfig())
    semantic_dim: Positive = 768

    @model_validator(mode="after")
    def _check(self) -> SpeechTokenizerConfig:
        if self.networks.dim != self.quantizer.dim:
            raise ValueError(f"the encoder's latents have {self.networks.dim} dimensions, the quantizer's {self.quantizer.dim}")
        return self


class SpeechTokenizer(SeanetCodec[SpeechTokenizerConfig]):
    """Mono. T samples become ceil(T / hop) frames. Level 0 holds the content of speech, the others mostly its timbre.

    The projection to the teacher's features is no part of `forward`: the objective's `distillation` reads and trains it, and it is frozen otherwise.
    """

    config_class = SpeechTokenizerConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        super().__init__(config)
        dim, semantic = config.networks.dim, config.semantic_dim
        self.encoder = SeanetEncoder(config.networks)
        self.quantizer = ResidualQuantizer(num_levels=config.num_levels, quantizer=config.quantizer)
        self.decoder = SeanetDecoder(config.networks)
        self.semantic_projection = (nn.Identity() if dim == semantic else nn.Linear(dim, semantic)).requires_grad_(False)
        self.preprocessing = AudioPreprocessing(sample_rate=config.sample_rate)
        self.layout = codec_layout(
            sample_rate=config.sample_rate,
            hop=config.networks.hop,
            vocab_size=config.quantizer.codebook_size,
            num_levels=config.num_levels,
        )

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From the authors' `config.json`."""
        return cls.config_class.parse(fields_of(config), source="SpeechTokenizer's configuration")

    def semantic_features(self, codes: Tensor) -> Tensor:
        """Codes (B, T, K), of which the first level is read -> what it says of the teacher's features, (B, T, semantic_dim)."""
        features: Tensor = self.semantic_projection(self.lookup(codes[..., :1]))
        return features
