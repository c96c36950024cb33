"""Qwen3-TTS-Tokenizer-12Hz (Hu et al. 2026, arXiv 2601.15621): Mimi's encoder with 16 levels, and a causal decoder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Config
from visiontok.core.chunks import Chunking
from visiontok.layers.carry import Carry
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.audio.mimi.model import MimiConfig, MimiEncoding, MimiQuantizer
from visiontok.tokenizers.audio.qwen3_tts_tokenizer.decoder import DecoderConfig, Qwen3TtsDecoder
from visiontok.tokenizers.audio.qwen3_tts_tokenizer.quantizer import TwoSidedQuantizer
from visiontok.tokenizers.audio.qwen3_tts_tokenizer.reference import KEY_MAP, converted, fields_of
from visiontok.tokenizers.shared.codec import codec_layout
from visiontok.tokenizers.shared.library_seanet import mirrored_frames


class Qwen3TtsTokenizerConfig(Config):
    """Sizes; the defaults are those of the released model.

    Attributes:
        encoder: of Mimi, with all levels that its files hold.
        num_levels: the first ones, which are used: a semantic one and acoustic ones.
        decoder: of its own.
    """

    encoder: MimiConfig = MimiConfig()
    num_levels: int = Field(default=16, ge=2)
    decoder: DecoderConfig = DecoderConfig()

    @model_validator(mode="after")
    def _check(self) -> Qwen3TtsTokenizerConfig:
        encoder, decoder = self.encoder, self.decoder
        if encoder.hop != decoder.hop:
            raise ValueError(f"the encoder's hop of {encoder.hop} samples is not the decoder's, {decoder.hop}")
        if (encoder.hidden_size, 2 * encoder.vector_quantization_hidden_dimension) != (decoder.code_dim, decoder.code_dim):
            raise ValueError(
                f"hidden_size {encoder.hidden_size} and twice the vector_quantization_hidden_dimension "
                f"{encoder.vector_quantization_hidden_dimension} of the encoder must equal the decoder's code_dim {decoder.code_dim}"
            )
        if self.num_levels > encoder.num_quantizers or encoder.num_semantic_quantizers != 1:
            raise ValueError(f"of num_quantizers {encoder.num_quantizers}, {self.num_levels} levels are used, the first of them semantic")
        return self


class Qwen3TtsTokenizer(MimiEncoding[Qwen3TtsTokenizerConfig]):
    """Mono. T samples become ceil(T / hop) frames of 16 codes, all of which are needed to decode. Nothing reads what follows a frame.

    The published `decode` cuts codes into pieces of 300 frames with 25 frames before each; here a sound is decoded whole, as by the decoder itself.
    """

    config_class = Qwen3TtsTokenizerConfig
    reference_keys: ClassVar = KEY_MAP

    quantizer: TwoSidedQuantizer

    def __init__(self, config: Qwen3TtsTokenizerConfig) -> None:
        super().__init__(config)
        encoder = config.encoder
        network = self.new_network(encoder.library_arguments())
        self.take_encoder(network)
        self.quantizer = TwoSidedQuantizer(
            MimiQuantizer(network.quantizer),
            num_levels=config.num_levels,
            codebook_size=encoder.codebook_size,
            dim=encoder.vector_quantization_hidden_dimension,
        )
        self.decoder = Qwen3TtsDecoder(config.decoder)
        self.preprocessing = AudioPreprocessing(sample_rate=encoder.sampling_rate, channels=encoder.audio_channels)
        self.layout = codec_layout(
            sample_rate=encoder.sampling_rate,
            hop=encoder.hop,
            vocab_size=encoder.codebook_size,
            num_levels=config.num_levels,
            min_levels=config.num_levels,
        )

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From the authors' `config.json`."""
        return cls.config_class.parse(fields_of(config), source="the configuration of Qwen3-TTS-Tokenizer")

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Self:
        """See `Model`."""
        return super().from_reference(config, converted(state_dict, head_dim=fields_of(config)["decoder"]["transformer"]["head_dim"]))

    @property
    def chunking(self) -> Chunking:
        """See `Chunked`; a state is carried where Mimi's encoder is causal, as in the release."""
        encoder = self.config.encoder
        if not encoder.use_causal_conv:
            return super().chunking
        return Chunking(unit=encoder.hop, is_carried=True, is_exact=True, first=mirrored_frames(encoder))

    def decode_next(self, latents: Tensor, carry: Carry) -> Tensor:
        sound: Tensor = self.decoder(latents.transpose(1, 2), carry)
        return sound

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, frames, D) -> (B, 1, frames * hop)."""
        sound: Tensor = self.decoder(latents.transpose(1, 2))
        return sound
