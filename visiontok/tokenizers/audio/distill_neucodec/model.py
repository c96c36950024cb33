"""DistillNeuCodec (Julian et al. 2025, arXiv 2509.09550): NeuCodec's codes and decoder behind smaller encoders, one of them DistilHuBERT."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn.functional import pad

from visiontok.base.config import Config, Positive
from visiontok.base.optional import import_optional_class
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.audio.distill_neucodec.acoustic import AcousticConfig, AcousticEncoder
from visiontok.tokenizers.audio.distill_neucodec.reference import fields_of, own_names
from visiontok.tokenizers.audio.neucodec.model import NeuCodecConfig
from visiontok.tokenizers.shared.codec import codec_layout
from visiontok.tokenizers.shared.hubert import SemanticConfig
from visiontok.tokenizers.shared.library_codec import without_weight_norm
from visiontok.tokenizers.shared.w2v_bert_codec import ScalarCodec, ScalarQuantizer, W2vBertConfig


class DistillNeuCodecConfig(Config):
    """Sizes; the defaults are those of the released model.

    Attributes:
        input_sampling_rate, output_sampling_rate: of what goes in and comes out, in Hz.
        semantic: of DistilHuBERT.
        acoustic: of the encoder beside it.
        hidden_size, num_hidden_layers, num_attention_heads: of the decoder.
        quantization_dim: of the latents, wider than the decoder.
        quantization_levels: of the scalars of a code.
    """

    input_sampling_rate: Positive = 16000
    output_sampling_rate: Positive = 24000
    semantic: SemanticConfig = SemanticConfig(num_hidden_layers=2, feat_proj_layer_norm=False)
    acoustic: AcousticConfig = AcousticConfig()
    hidden_size: Positive = 1024
    num_hidden_layers: Positive = 12
    num_attention_heads: Positive = 16
    quantization_dim: Positive = 2048
    quantization_levels: tuple[Positive, ...] = (4, 4, 4, 4, 4, 4, 4, 4)

    @model_validator(mode="after")
    def _check(self) -> DistillNeuCodecConfig:
        if self.semantic.model_type != "hubert" or self.semantic.hop != self.hop:
            raise ValueError(f"semantic must be a hubert of {self.hop} samples per frame, as the acoustic encoder has")
        if self.quantization_dim <= self.hidden_size or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be below quantization_dim {self.quantization_dim}, and a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        self.decoder()
        return self

    @property
    def hop(self) -> int:
        """Samples per frame of what goes in."""
        return self.acoustic.hop

    def decoder(self) -> NeuCodecConfig:
        """Of a NeuCodec with the same quantizer and decoder, and the smallest encoders."""
        return NeuCodecConfig(
            input_sampling_rate=self.input_sampling_rate,
            output_sampling_rate=self.output_sampling_rate,
            hidden_size=self.hidden_size,
            intermediate_size=4 * self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_attention_heads,
            head_dim=self.hidden_size // self.num_attention_heads,
            encoder_hidden_size=1,
            downsampling_ratios=(*self.acoustic.strides, self.acoustic.stride),
            semantic_model_config=W2vBertConfig(
                hidden_size=self.quantization_dim - self.hidden_size, num_hidden_layers=1, num_attention_heads=1, intermediate_size=1
            ),
            quantization_dim=self.quantization_dim,
            quantization_levels=self.quantization_levels,
        )


class DistillNeuCodec(ScalarCodec[DistillNeuCodecConfig]):
    """Mono; sound at 16 kHz becomes sound at 24 kHz. T samples become T // hop + 1 frames: at least one sample of silence is appended, as published.

    DistilHuBERT stays as it is in training. It normalizes over the whole sound: the codes of a beginning depend on what follows.
    """

    config_class = DistillNeuCodecConfig
    frozen: ClassVar = ("semantic_model",)
    network_class: ClassVar = "NeuCodecModel"
    network_config_class: ClassVar = "NeuCodecConfig"

    def __init__(self, config: DistillNeuCodecConfig) -> None:
        super().__init__(config)
        network = self.new_network(config.decoder().library_arguments())
        self.quantizer, self.acoustic_decoder = ScalarQuantizer(network.quantizer), network.acoustic_decoder
        hubert, hubert_config = (import_optional_class("transformers", name, extra="zoo") for name in ("HubertModel", "HubertConfig"))
        arguments = {name: value for name, value in config.semantic.library_arguments().items() if name != "model_type"}
        semantic, dim = config.semantic.hidden_size, config.acoustic.dim
        self.semantic_model = without_weight_norm(hubert(hubert_config(**arguments))).requires_grad_(False).eval()
        self.semantic_adapter = SemanticAdapter(semantic, config.hidden_size)
        self.acoustic_encoder = AcousticEncoder(config.acoustic)
        self.fc_acoustic = nn.Linear(dim, semantic)
        self.fc_encoder = nn.Linear(2 * semantic, config.quantization_dim)
        self.preprocessing = AudioPreprocessing(sample_rate=config.input_sampling_rate)
        self.output_rate = config.output_sampling_rate
        self.layout = codec_layout(sample_rate=config.input_sampling_rate, hop=config.hop, vocab_size=math.prod(config.quantization_levels))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From the arguments of the authors' own class."""
        return cls.config_class.parse(fields_of(config), source="DistillNeuCodec's configuration")

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """From the authors' names."""
        return own_names(state_dict)

    def semantic_features(self, signal: Tensor) -> Tensor:
        """(B, 1, T), T a multiple of the hop -> (B, T / hop, D)."""
        with torch.no_grad():
            hidden: Tensor = self.semantic_model(pad(signal[:, 0], (self.hop // 2, self.hop // 2))).last_hidden_state
        return hidden

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 1, T) -> (B, T // hop + 1, D)."""
        padded = pad(signal, (0, self.hop - signal.shape[-1] % self.hop))
        semantic = self.semantic_adapter(self.semantic_features(padded).transpose(1, 2)).transpose(1, 2)
        latents: Tensor = self.fc_encoder(torch.cat([semantic, self.fc_acoustic(self.acoustic_encoder(padded))], dim=-1))
        return latents


class SemanticAdapter(nn.Module):
    """Four convolutions; what the first gives, rectified, is added behind the third. (B, D, T) -> (B, D, T)."""

    def __init__(self, dim: int, inner_dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(dim, inner_dim, 3, padding=1, bias=False)
        self.conv2, self.conv3 = (nn.Conv1d(inner_dim, inner_dim, 3, padding=1) for _ in range(2))
        self.conv4 = nn.Conv1d(inner_dim, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(x).relu()
        result: Tensor = self.conv4(hidden + self.conv3(self.conv2(hidden).relu()))
        return result
