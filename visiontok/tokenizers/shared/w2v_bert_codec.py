"""What codecs of transformers share that join w2v-BERT with an acoustic network and round the result: X-Codec2 and NeuCodec."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.core.keymap import KeyMap
from visiontok.core.model import ConfigT
from visiontok.layers.kaldi_fbank import kaldi_fbank
from visiontok.tokenizers.shared.codec import fitted
from visiontok.tokenizers.shared.library_codec import LibraryCodec, LibraryQuantizer
from visiontok.tokenizers.shared.library_model import LibraryConfig, general_names

_PARTS = ("semantic_encoder", "semantic_adapter", "acoustic_encoder", "fc_encoder", "acoustic_decoder")

KEY_MAP = KeyMap(
    {
        "semantic_encoder.masked_spec_embed": None,  # of the training of the semantic model
        **{f"{part}.{{*}}": f"{part}.{{*}}" for part in _PARTS},
        "quantizer.{*}": "quantizer.fsq.{*}",
    }
)

IGNORED = {
    "activation_dropout": "nothing is dropped",
    "attention_dropout": "nothing is dropped",
    "rope_parameters.{*}": "positions run over the heads, so that they cancel",
    "rope_parameters": "positions run over the heads, so that they cancel",
    "max_position_embeddings": "positions run over the heads, so that they cancel",
    "pad_token_id": "a setting of language models",
    "tie_word_embeddings": "a setting of language models",
}
"""Keys that do not affect the tokens -> the reason."""

_SEMANTIC_IGNORED = frozenset((
    "vocab_size", "hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "final_dropout", "layerdrop", "initializer_range",
    "apply_spec_augment", "mask_time_prob", "mask_time_length", "mask_time_min_masks", "mask_feature_prob", "mask_feature_length",
    "mask_feature_min_masks", "ctc_loss_reduction", "ctc_zero_infinity", "use_weighted_layer_sum", "classifier_proj_size", "tdnn_dim", "tdnn_kernel",
    "tdnn_dilation", "xvector_output_dim", "pad_token_id", "bos_token_id", "eos_token_id", "adapter_kernel_size", "adapter_stride",
    "num_adapter_layers", "adapter_act", "use_intermediate_ffn_before_adapter", "output_hidden_size", "conformer_conv_dropout",
))  # fmt: skip
"""Of w2v-BERT's configuration: the model is frozen, so that nothing is dropped or masked, and the heads are not there."""


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


class W2vBertCodecConfig(LibraryConfig):
    """Fields of transformers' `Xcodec2Config` and `NeuCodecConfig` alike, by their names; each adds its rates."""

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
    quantization_dim: Positive = 2048
    quantization_levels: tuple[Positive, ...] = (4, 4, 4, 4, 4, 4, 4, 4)

    @model_validator(mode="after")
    def _check_hop(self) -> Self:
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


class ScalarCodec(LibraryCodec[ConfigT]):
    """Base of codecs with their quantizer and decoder: convolutions, a transformer, and the inverse of a Fourier transform."""

    acoustic_decoder: nn.Module
    quantizer: ScalarQuantizer

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, frames, D) -> (B, 1, frames * output_hop)."""
        return fitted(self.acoustic_decoder(latents), latents.shape[1] * self.output_hop)


CodecConfigT = TypeVar("CodecConfigT", bound=W2vBertCodecConfig)


class W2vBertCodec(ScalarCodec[CodecConfigT]):
    """Base of the two. w2v-BERT stays as it is in training. It normalizes over the whole sound: the codes of a beginning depend on what follows."""

    frozen: ClassVar = ("semantic_encoder",)
    reference_keys: ClassVar = KEY_MAP
    ignored_settings: ClassVar = IGNORED

    semantic_encoder: nn.Module
    semantic_adapter: nn.Module
    acoustic_encoder: nn.Module
    fc_encoder: nn.Module

    def __init__(self, config: CodecConfigT) -> None:
        super().__init__(config)
        network = self.new_network(config.library_arguments())
        self.semantic_encoder = network.semantic_encoder.requires_grad_(False).eval()
        self.semantic_adapter, self.acoustic_encoder = network.semantic_adapter, network.acoustic_encoder
        self.fc_encoder, self.acoustic_decoder = network.fc_encoder, network.acoustic_decoder
        self.quantizer = ScalarQuantizer(network.quantizer)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From transformers' `config.json`, without what does not affect the tokens in that of w2v-BERT; unknown keys are refused by name."""
        ignored = _SEMANTIC_IGNORED | general_names()
        semantic = dict(config.get("semantic_model_config") or {})
        kept = {name: value for name, value in semantic.items() if name not in ignored}
        return super().config_from_reference({**config, "semantic_model_config": kept}, state_dict)

    def speech_features(self, signal: Tensor, *, sample_rate: int) -> Tensor:
        """Sound (B, T) -> what w2v-BERT reads, (B, frames, 2 bins): mel energies of two windows, each bin normalized over time."""
        half = self.config.hop // 2
        bins = self.config.semantic_model_config.feature_projection_input_dim // 2
        energies = kaldi_fbank(signal, sample_rate=sample_rate, num_bins=bins, window=5 * self.config.hop // 4, hop=half)
        normalized = (energies - energies.mean(dim=1, keepdim=True)) / (energies.var(dim=1, keepdim=True) + 1e-7).sqrt()
        return normalized.unflatten(1, (-1, 2)).flatten(2)

    def hidden_states(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, frames, 2 bins) of which the mask (B, frames) says which are valid -> (B, frames, D) of w2v-BERT."""
        with torch.no_grad():
            hidden: Tensor = self.semantic_encoder(features, attention_mask=mask).last_hidden_state
        return hidden

    def join(self, signal: Tensor, hidden: Tensor) -> Tensor:
        """Sound (B, 1, T) of whole frames and hidden states (B, frames, D') of w2v-BERT -> latents (B, L, D), L the smaller number of frames."""
        semantic, acoustic = self.semantic_adapter(hidden.transpose(1, 2)), self.acoustic_encoder(signal)
        length = min(semantic.shape[-1], acoustic.shape[-1])
        latents: Tensor = self.fc_encoder(torch.cat([semantic[..., :length], acoustic[..., :length]], dim=1).transpose(1, 2))
        return latents


class ScalarQuantizer(LibraryQuantizer):
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
