"""Mimi (Défossez et al. 2024, arXiv 2410.00037) with transformers' `MimiModel`: causal, one semantic level beside the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.core.chunks import Chunking
from visiontok.core.model import ConfigT
from visiontok.layers.carry import Carry
from visiontok.quantizers.gradients import straight_through
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.audio.mimi.reference import IGNORED, KEY_MAP, with_rope_parameters
from visiontok.tokenizers.shared.codec import codec_layout, fitted
from visiontok.tokenizers.shared.library_codec import COMMITMENT_WEIGHT, LibraryCodec, LibraryQuantizer
from visiontok.tokenizers.shared.library_model import LibraryConfig
from visiontok.tokenizers.shared.library_seanet import carried, mirrored_frames


class RopeParameters(LibraryConfig):
    """Of the rotary positions of both transformers."""

    rope_theta: float = Field(default=10000.0, gt=0)
    rope_type: Literal["default"] = "default"


class MimiConfig(LibraryConfig):
    """Fields of transformers' `MimiConfig`, by its names."""

    sampling_rate: Positive = 24000
    audio_channels: Literal[1, 2] = 1
    hidden_size: Positive = 512
    num_filters: Positive = 64
    num_residual_layers: Positive = 1
    upsampling_ratios: tuple[Positive, ...] = (8, 6, 5, 4)
    kernel_size: Positive = 7
    last_kernel_size: Positive = 3
    residual_kernel_size: Positive = 3
    dilation_growth_rate: Positive = 2
    use_causal_conv: bool = True
    pad_mode: Literal["constant", "replicate", "reflect"] = "constant"
    compress: Positive = 2
    trim_right_ratio: float = Field(default=1.0, ge=0, le=1)
    codebook_size: Positive = 2048
    codebook_dim: Positive = 256
    num_quantizers: Positive = 32
    use_conv_shortcut: bool = False
    vector_quantization_hidden_dimension: Positive = 256
    num_semantic_quantizers: Positive = 1
    upsample_groups: Positive = 512
    num_hidden_layers: Positive = 8
    intermediate_size: Positive = 2048
    num_attention_heads: Positive = 8
    num_key_value_heads: Positive = 8
    head_dim: Positive | None = None
    hidden_act: str = "gelu"
    max_position_embeddings: Positive = 8000
    norm_eps: float = Field(default=1e-5, gt=0)
    rope_parameters: RopeParameters = RopeParameters()
    sliding_window: Positive = 250
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    layer_scale_initial_scale: float = 0.01
    attention_bias: bool = False

    @model_validator(mode="after")
    def _check(self) -> MimiConfig:
        if self.num_semantic_quantizers >= self.num_quantizers:
            raise ValueError(f"num_quantizers {self.num_quantizers} must be above num_semantic_quantizers {self.num_semantic_quantizers}")
        return self

    @property
    def hop(self) -> int:
        """Samples per frame: the strides of the convolutions, and 2 for the layer behind the transformer."""
        return 2 * math.prod(self.upsampling_ratios)

    def library_arguments(self) -> dict[str, Any]:
        """See `LibraryConfig`."""
        return {**super().library_arguments(), "upsampling_ratios": list(self.upsampling_ratios), "rope_parameters": self.rope_parameters.to_dict()}


class MimiEncoding(LibraryCodec[ConfigT]):
    """Base of codecs with Mimi's encoder: convolutions, a transformer that sees 250 frames back, and a convolution of stride 2."""

    network_class: ClassVar = "MimiModel"
    network_config_class: ClassVar = "MimiConfig"

    encoder: Any
    encoder_transformer: nn.Module
    downsample: nn.Module

    def take_encoder(self, network: Any) -> None:
        """Keep the encoder's parts of the library's network."""
        before = network.encoder
        nested = hasattr(before, "encoder_seanet")  # newer versions keep each half in a model of its own
        self.encoder = before.encoder_seanet if nested else before
        self.encoder_transformer = (before if nested else network).encoder_transformer
        self.downsample = (before if nested else network).downsample

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, C, T) -> (B, ceil(T / hop), D)."""
        hidden = self.encoder_transformer(self.encoder(signal).transpose(1, 2)).last_hidden_state
        latents: Tensor = self.downsample(hidden.transpose(1, 2))
        return latents.transpose(1, 2)

    def encode_next(self, signal: Tensor, carry: Carry) -> Tensor:
        hidden = _attended(self.encoder_transformer, carried(self.encoder.layers, signal, carry), carry)
        return carried([self.downsample], hidden, carry).transpose(1, 2)


class Mimi(MimiEncoding[MimiConfig]):
    """The semantic level and the acoustic ones read the same latents; their codes are added up. Both transformers see 250 frames back."""

    config_class = MimiConfig
    reference_keys: ClassVar = KEY_MAP
    ignored_settings: ClassVar = IGNORED

    decoder: Any
    decoder_transformer: nn.Module
    upsample: nn.Module
    quantizer: MimiQuantizer

    def __init__(self, config: MimiConfig) -> None:
        super().__init__(config)
        network = self.new_network(config.library_arguments())
        self.take_encoder(network)
        behind = network.decoder
        nested = hasattr(behind, "decoder_seanet")
        self.upsample = (behind if nested else network).upsample
        self.decoder_transformer = (behind if nested else network).decoder_transformer
        self.decoder = behind.decoder_seanet if nested else behind
        self.quantizer = MimiQuantizer(network.quantizer)
        self.preprocessing = AudioPreprocessing(sample_rate=config.sampling_rate, channels=config.audio_channels)
        self.layout = codec_layout(
            sample_rate=config.sampling_rate,
            hop=config.hop,
            vocab_size=config.codebook_size,
            num_levels=config.num_quantizers,
            min_levels=config.num_semantic_quantizers,
        )

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From transformers' `config.json`."""
        return super().config_from_reference(with_rope_parameters(config), state_dict)

    @property
    def chunking(self) -> Chunking:
        """See `Chunked`; a state is carried where the networks are causal."""
        config = self.config
        if not config.use_causal_conv or config.trim_right_ratio != 1.0:
            return super().chunking
        return Chunking(unit=config.hop, is_carried=True, is_exact=True, first=mirrored_frames(config))

    def decode_next(self, latents: Tensor, carry: Carry) -> Tensor:
        hidden = _attended(self.decoder_transformer, carried([self.upsample], latents.transpose(1, 2), carry), carry)
        return carried(self.decoder.layers, hidden, carry)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, frames, D) -> (B, C, frames * hop)."""
        hidden = self.decoder_transformer(self.upsample(latents.transpose(1, 2)).transpose(1, 2)).last_hidden_state
        return fitted(self.decoder(hidden.transpose(1, 2)), latents.shape[1] * self.hop)


def _attended(transformer: nn.Module, hidden: Tensor, carry: Carry) -> Tensor:
    """(B, D, T) -> (B, D, T): the next frames through one of the transformers, whose keys and values the library keeps."""
    output = transformer(hidden.transpose(1, 2), use_cache=True, **(carry.get(transformer) or {}))
    carry.keep(transformer, {name: value for name, value in output.items() if name in ("cache", "past_key_values")})
    result: Tensor = output.last_hidden_state.transpose(1, 2)
    return result


class MimiQuantizer(LibraryQuantizer):
    """Two residual quantizers side by side, each with its own projections."""

    rvq: Any

    def __init__(self, rvq: nn.Module) -> None:
        super().__init__()
        self.rvq = rvq

    @property
    def branches(self) -> tuple[Any, Any]:
        """The semantic quantizer and the acoustic one, of the library."""
        return self.rvq.semantic_residual_vector_quantizer, self.rvq.acoustic_residual_vector_quantizer

    def projected(self, latents: Tensor) -> list[Tensor]:
        """Latents (B, D, T) -> what each branch quantizes, (B, d, T)."""
        return [latents if branch.input_proj is None else branch.input_proj(latents) for branch in self.branches]

    def quantize_frames(self, latents: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """See `LibraryQuantizer`; gradients pass straight through between the projections, so that these learn too."""
        with torch.no_grad():
            codes = self.search_frames(latents)
        quantized, distances, semantic = torch.zeros_like(latents), [], self.rvq.num_semantic_quantizers
        for branch, inputs, own in zip(self.branches, self.projected(latents), (codes[:, :semantic], codes[:, semantic:]), strict=True):
            found = torch.stack([level.decode(indices) for level, indices in zip(branch.layers, own.unbind(dim=1), strict=True)]).sum(dim=0)
            passed = straight_through(inputs, found)
            quantized = quantized + (passed if branch.output_proj is None else branch.output_proj(passed))
            distances.append(F.mse_loss(inputs, found.detach()))
        return quantized, codes, {"commitment": COMMITMENT_WEIGHT * torch.stack(distances).sum()}

    def search_frames(self, latents: Tensor) -> Tensor:
        self._forget_codes()
        codes: Tensor = self.rvq.encode(latents)
        return codes.transpose(0, 1)

    def lookup_frames(self, codes: Tensor) -> Tensor:
        self._forget_codes()
        latents: Tensor = self.rvq.decode(codes)
        return latents

    def _forget_codes(self) -> None:
        """The library keeps the codes that it computed from its buffers, also when these are loaded, or moved to another device."""
        for module in self.rvq.modules():
            if hasattr(module, "_embed"):
                module._embed = None
