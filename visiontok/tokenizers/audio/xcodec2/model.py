"""X-Codec2 (Ye et al. 2025, arXiv 2502.04128) with transformers' `Xcodec2Model`: w2v-BERT and an acoustic network, one scalar code per frame."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import pad

from visiontok.base.config import Positive
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.shared.codec import codec_layout
from visiontok.tokenizers.shared.w2v_bert_codec import W2vBertCodec, W2vBertCodecConfig


class Xcodec2Config(W2vBertCodecConfig):
    """Fields of transformers' `Xcodec2Config`, by its names."""

    sampling_rate: Positive = 16000


class Xcodec2(W2vBertCodec[Xcodec2Config]):
    """Mono. At least one sample of silence is appended, up to whole frames, as published: T samples become T // hop + 1 frames."""

    config_class = Xcodec2Config
    network_class: ClassVar = "Xcodec2Model"
    network_config_class: ClassVar = "Xcodec2Config"

    def __init__(self, config: Xcodec2Config) -> None:
        super().__init__(config)
        self.preprocessing = AudioPreprocessing(sample_rate=config.sampling_rate)
        self.layout = codec_layout(sample_rate=config.sampling_rate, hop=config.hop, vocab_size=math.prod(config.quantization_levels))

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 1, T) -> (B, T // hop + 1, D). Features are those of the sound between two halves of a frame of silence."""
        padded, half = pad(signal, (0, self.hop - signal.shape[-1] % self.hop)), self.hop // 2
        features = self.speech_features(pad(padded[:, 0], (half, half)), sample_rate=self.config.sampling_rate)
        return self.join(padded, self.hidden_states(features))
