"""X-Codec2 (Ye et al. 2025, arXiv 2502.04128) with transformers' `Xcodec2Model`: w2v-BERT and an acoustic network, one scalar code per frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import pad
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.layers.kaldi_fbank import kaldi_fbank
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.audio.xcodec2.reference import IGNORED, KEY_MAP, fields_of
from visiontok.tokenizers.shared.codec import codec_layout, fitted
from visiontok.tokenizers.shared.library_codec import LibraryCodec, LibraryQuantizer
from visiontok.tokenizers.shared.library_model import LibraryConfig


class W2vBertConfig(LibraryConfig):
    """Fields of `Wav2Vec2BertConfig`, by the library's names; 16 layers of w2v-BERT 2.0."""

    hidden_size: Positive = 1024
    num_hidden_layers: Positive = 16
    num_attention_heads: Positive = 16
    intermediate_size: Positive = 4096
    feature_projection_input_dim: int = Field(default=160, gt=0, multiple_of=2)
    hidden_act: str = "swish"
    layer_norm_eps: float = Field(default=1e-5, gt=0)
    add_adapter: Literal[False] = False
    position_embeddings_type: Literal["rotary", "relative", "relative_key"] | None = "relative_key"
    rotary_embedding_base: Positive = 10000
    max_source_positions: Positive = 5000
    left_max_position_embeddings: Positive = 64
    right_max_position_embeddings: Positive = 8
    conv_depthwise_kernel_size: Positive = 31

    def library_arguments(self) -> dict[str, Any]:
        """See `LibraryConfig`; nothing is masked, which is a matter of the model's own training."""
        training = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "apply_spec_augment": False, "layerdrop": 0.0}
        return {"model_type": "wav2vec2-bert", **super().library_arguments(), **training}


class Xcodec2Config(LibraryConfig):
    """Fields of transformers' `Xcodec2Config`, by its names."""

    hidden_size: Positive = 1024
    intermediate_size: Positive = 4096
    num_hidden_layers: Positive = 12
    num_attention_heads: Positive = 16
    num_key_value_heads: Positive = 16
    hidden_act: str = "silu"
    rms_norm_eps: float = Field(default=1e-6, gt=0)
    attention_bias: bool = False
    head_dim: Positive = 64
    encoder_hidden_size: Positive = 48
    downsampling_ratios: tuple[Positive, ...] = (2, 2, 4, 4, 5)
    semantic_model_config: W2vBertConfig = W2vBertConfig()
    sampling_rate: Positive = 16000
    quantization_dim: Positive = 2048
    quantization_levels: tuple[Positive, ...] = (4, 4, 4, 4, 4, 4, 4, 4)

    @model_validator(mode="after")
    def _check(self) -> Xcodec2Config:
        if self.hop % 2:
            raise ValueError(f"downsampling_ratios {self.downsampling_ratios} give a hop of {self.hop}; features need an even one")
        return self

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.downsampling_ratios)

    def library_arguments(self) -> dict[str, Any]:
        """See `LibraryConfig`."""
        return {**super().library_arguments(), "semantic_model_config": self.semantic_model_config.library_arguments()}


class Xcodec2(LibraryCodec[Xcodec2Config]):
    """Mono. At least one sample of silence is appended, up to whole frames, as published: T samples become T // hop + 1 frames.

    w2v-BERT stays as it is in training. It normalizes over the whole sound, so that the codes of a beginning depend on what follows.
    """

    config_class = Xcodec2Config
    network_class: ClassVar = "Xcodec2Model"
    network_config_class: ClassVar = "Xcodec2Config"
    reference_keys: ClassVar = KEY_MAP
    ignored_settings: ClassVar = IGNORED

    semantic_encoder: nn.Module
    semantic_adapter: nn.Module
    acoustic_encoder: nn.Module
    fc_encoder: nn.Module
    acoustic_decoder: nn.Module
    quantizer: Xcodec2Quantizer

    def __init__(self, config: Xcodec2Config) -> None:
        super().__init__(config)
        network = self.new_network(config.library_arguments())
        self.semantic_encoder = network.semantic_encoder.requires_grad_(False).eval()
        self.semantic_adapter, self.acoustic_encoder = network.semantic_adapter, network.acoustic_encoder
        self.fc_encoder, self.acoustic_decoder = network.fc_encoder, network.acoustic_decoder
        self.quantizer = Xcodec2Quantizer(network.quantizer)
        self.preprocessing = AudioPreprocessing(sample_rate=config.sampling_rate)
        self.layout = codec_layout(sample_rate=config.sampling_rate, hop=config.hop, vocab_size=math.prod(config.quantization_levels))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From transformers' `config.json`."""
        return super().config_from_reference(fields_of(config), state_dict)

    def train(self, mode: bool = True) -> Self:
        """The semantic model stays in evaluation mode."""
        super().train(mode)
        self.semantic_encoder.eval()
        return self

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 1, T) -> (B, T // hop + 1, D)."""
        padded = pad(signal, (0, self.hop - signal.shape[-1] % self.hop))
        return self.join(padded, self.speech_features(padded))

    def speech_features(self, signal: Tensor) -> Tensor:
        """Sound (B, 1, T) of whole frames -> what w2v-BERT reads, (B, T / hop, 2 bins): mel energies of two windows, normalized over time."""
        half = self.hop // 2
        bins = self.config.semantic_model_config.feature_projection_input_dim // 2
        energies = kaldi_fbank(
            pad(signal[:, 0], (half, half)), sample_rate=self.config.sampling_rate, num_bins=bins, window=5 * self.hop // 4, hop=half
        )
        normalized = (energies - energies.mean(dim=1, keepdim=True)) / (energies.var(dim=1, keepdim=True) + 1e-7).sqrt()
        return normalized.unflatten(1, (-1, 2)).flatten(2)

    def join(self, signal: Tensor, features: Tensor) -> Tensor:
        """Sound (B, 1, T) of whole frames and its features (B, frames, 2 bins) -> latents (B, frames, D)."""
        with torch.no_grad():
            hidden = self.semantic_encoder(features).last_hidden_state
        joined = torch.cat([self.semantic_adapter(hidden.transpose(1, 2)), self.acoustic_encoder(signal)], dim=1)
        latents: Tensor = self.fc_encoder(joined.transpose(1, 2))
        return latents

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, frames, D) -> (B, 1, frames * hop)."""
        return fitted(self.acoustic_decoder(latents), latents.shape[1] * self.hop)


class Xcodec2Quantizer(LibraryQuantizer):
    """Finite scalar quantization between two projections. Values are bounded twice, on which the released weights depend."""

    fsq: Any

    def __init__(self, fsq: nn.Module) -> None:
        super().__init__()
        self.fsq = fsq

    def quantize_frames(self, latents: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """See `LibraryQuantizer`; there is no loss."""
        quantized, indices = self.fsq(latents.transpose(1, 2))
        return quantized.transpose(1, 2), indices.transpose(1, 2), {}

    def search_frames(self, latents: Tensor) -> Tensor:
        return self.quantize_frames(latents)[1]

    def lookup_frames(self, codes: Tensor) -> Tensor:
        latents: Tensor = self.fsq.from_codes(codes.transpose(1, 2))
        return latents.transpose(1, 2)
