"""NeuCodec (Julian et al. 2025, arXiv 2509.09550) with transformers' `NeuCodecModel`: X-Codec2's networks with a decoder of a higher rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator
from torch import Tensor
from torch.nn.functional import pad

from visiontok.base.config import Config, Positive
from visiontok.core.weight_norm import folded
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.audio.neucodec.reference import is_original, library_fields, library_names
from visiontok.tokenizers.shared.codec import codec_layout
from visiontok.tokenizers.shared.w2v_bert_codec import W2vBertCodec, W2vBertCodecConfig


class NeuCodecConfig(W2vBertCodecConfig):
    """Fields of transformers' `NeuCodecConfig`, by its names."""

    input_sampling_rate: Positive = 16000
    output_sampling_rate: Positive = 24000

    @model_validator(mode="after")
    def _check_rates(self) -> NeuCodecConfig:
        if self.hop * self.output_sampling_rate % self.input_sampling_rate:
            raise ValueError(f"a frame of {self.hop} samples at {self.input_sampling_rate} Hz is no whole number at {self.output_sampling_rate} Hz")
        return self


class NeuCodec(W2vBertCodec[NeuCodecConfig]):
    """Mono; sound at 16 kHz becomes sound at 24 kHz. T samples become T // hop frames, as published.

    The published preprocessing appends at least one sample of silence, up to whole frames, of which the features do not cover the last. Sounds
    that are shorter than a frame are padded with silence to one. What exceeds the whole frames comes back as silence.
    """

    config_class = NeuCodecConfig
    network_class: ClassVar = "NeuCodecModel"
    network_config_class: ClassVar = "NeuCodecConfig"

    def __init__(self, config: NeuCodecConfig) -> None:
        super().__init__(config)
        self.preprocessing = AudioPreprocessing(sample_rate=config.input_sampling_rate)
        self.output_rate = config.output_sampling_rate
        self.layout = codec_layout(sample_rate=config.input_sampling_rate, hop=config.hop, vocab_size=math.prod(config.quantization_levels))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From transformers' `config.json`, or from the arguments of the authors' own class."""
        return super().config_from_reference(library_fields(config) if is_original(config) else config, state_dict)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """From transformers' names or the authors'."""
        return super().weights_from_reference(library_names(folded(state_dict)))

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 1, T) -> (B, T // hop, D), one frame at least."""
        whole = pad(signal, (0, max(self.hop - signal.shape[-1], 0)))
        padded = pad(whole, (0, self.hop - whole.shape[-1] % self.hop))
        features = self.speech_features(padded[:, 0], sample_rate=self.config.input_sampling_rate)
        return self.join(padded, self.hidden_states(features))
