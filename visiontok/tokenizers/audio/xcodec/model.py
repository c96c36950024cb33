"""X-Codec (Ye et al. 2024, arXiv 2408.17175) with transformers' `XcodecModel`: DAC's networks beside a frozen HuBERT or WavLM, quantized together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import mse_loss, pad

from visiontok.base.config import Config, Positive
from visiontok.base.noise import NoiseLike, as_noise
from visiontok.core.tokenizer import TokenizerOutput
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.audio.xcodec.reference import IGNORED, KEY_MAP, fields_of
from visiontok.tokenizers.shared.codec import codec_layout, fitted
from visiontok.tokenizers.shared.hubert import SemanticConfig
from visiontok.tokenizers.shared.library_codec import LibraryCodec, LibraryResidualQuantizer, levels_of_bandwidth
from visiontok.tokenizers.shared.library_model import LibraryConfig

SEMANTIC_WEIGHT = 100.0
"""Of the semantic loss, as the authors train; their commitment loss has the weight 1."""


class AcousticConfig(LibraryConfig):
    """Fields of `DacConfig` that the encoder and the decoder read, by the library's names."""

    encoder_hidden_size: Positive = 64
    downsampling_ratios: tuple[Positive, ...] = (8, 5, 4, 2)
    upsampling_ratios: tuple[Positive, ...] = (8, 5, 4, 2)
    decoder_hidden_size: Positive = 1024
    hidden_size: Positive = 256


class XcodecConfig(LibraryConfig):
    """Fields of transformers' `XcodecConfig`, by its names; the number of codebooks follows from the largest of `target_bandwidths`."""

    target_bandwidths: tuple[float, ...] = Field(default=(0.5, 1, 1.5, 2, 4), min_length=1)
    sample_rate: Positive = 16000
    kernel_size: Positive = 3
    channel_ratios: tuple[Positive, ...] = (1, 1)
    strides: tuple[Positive, ...] = (1, 1)
    block_dilations: tuple[Positive, ...] = (1, 1)
    unit_kernel_size: Positive = 3
    codebook_size: Positive = 1024
    acoustic_model_config: AcousticConfig = AcousticConfig()
    semantic_model_config: SemanticConfig = SemanticConfig()

    @model_validator(mode="after")
    def _check(self) -> XcodecConfig:
        if self.num_levels < 1:
            raise ValueError(f"target_bandwidths {self.target_bandwidths} do not hold one codebook of {self.codebook_size} codes")
        return self

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.acoustic_model_config.downsampling_ratios)

    @property
    def num_levels(self) -> int:
        """Codebooks that the largest bandwidth holds."""
        return levels_of_bandwidth(self.target_bandwidths[-1], sample_rate=self.sample_rate, hop=self.hop, codebook_size=self.codebook_size)

    def library_arguments(self) -> dict[str, Any]:
        """See `LibraryConfig`."""
        return {
            **super().library_arguments(),
            "acoustic_model_config": {"model_type": "dac", **self.acoustic_model_config.library_arguments()},
            "semantic_model_config": self.semantic_model_config.library_arguments(),
        }


class Xcodec(LibraryCodec[XcodecConfig]):
    """Mono. Sound is padded with silence to whole frames.

    The semantic model stays as it is in training; `fc1` and `decoder_semantic` serve training only, where codes shall also give its features back.
    """

    config_class = XcodecConfig
    frozen: ClassVar = ("semantic_model",)
    network_class: ClassVar = "XcodecModel"
    network_config_class: ClassVar = "XcodecConfig"
    reference_keys: ClassVar = KEY_MAP
    ignored_settings: ClassVar = IGNORED

    acoustic_encoder: nn.Module
    acoustic_decoder: nn.Module
    encoder_semantic: nn.Module
    decoder_semantic: nn.Module
    semantic_model: nn.Module
    fc: nn.Module
    fc1: nn.Module
    fc2: nn.Module
    quantizer: LibraryResidualQuantizer

    def __init__(self, config: XcodecConfig) -> None:
        super().__init__(config)
        network = self.new_network(config.library_arguments())
        self.acoustic_encoder, self.acoustic_decoder = network.acoustic_encoder, network.acoustic_decoder
        self.encoder_semantic, self.semantic_model = network.encoder_semantic, network.semantic_model.requires_grad_(False).eval()
        self.fc, self.fc1, self.fc2, self.decoder_semantic = network.fc, network.fc1, network.fc2, network.decoder_semantic
        self.quantizer = LibraryResidualQuantizer(network.quantizer)
        self.preprocessing = AudioPreprocessing(sample_rate=config.sample_rate, multiple_of=config.hop)
        self.layout = codec_layout(sample_rate=config.sample_rate, hop=config.hop, vocab_size=config.codebook_size, num_levels=config.num_levels)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From transformers' `config.json`."""
        return super().config_from_reference(fields_of(config), state_dict)

    def semantic_features(self, signal: Tensor) -> Tensor:
        """(B, 1, T) -> (B, frames, D): the mean of the hidden states of all layers."""
        with torch.no_grad():
            states = self.semantic_model(pad(signal[:, 0], (self.hop // 2, self.hop // 2)), output_hidden_states=True).hidden_states
        return torch.stack(states, dim=1).mean(dim=1)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 1, T) -> (B, frames, D)."""
        return self._joined(signal, self.semantic_features(signal))

    def _joined(self, signal: Tensor, features: Tensor) -> Tensor:
        semantic = self.encoder_semantic(features.transpose(1, 2))
        acoustic = self.acoustic_encoder(signal)
        if acoustic.shape[-1] != semantic.shape[-1]:  # as published: only then, the acoustic network too sees half a frame more on both sides
            acoustic = self.acoustic_encoder(pad(signal, (self.hop // 2, self.hop // 2)))
        latents: Tensor = self.fc(torch.cat([acoustic, semantic], dim=1).transpose(1, 2))
        return latents

    def forward_padded(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: NoiseLike = None) -> TokenizerOutput:
        """See `Tokenizer`; in training with the loss "semantic", the mean squared difference of the semantic model's features and what the codes give
        of them."""
        features = self.semantic_features(signal)
        noise = as_noise(noise, signal.device) if self.training else noise
        quantized = self.quantize(self._joined(signal, features), step=step, noise=noise)
        output = self.output(self.decode_latents(quantized.latents), quantized)
        if not self.training:
            return output
        restored = self.decoder_semantic(self.fc1(quantized.latents).transpose(1, 2)).transpose(1, 2)
        return replace(output, losses={**output.losses, "semantic": SEMANTIC_WEIGHT * mse_loss(restored.float(), features.float())})

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, frames, D) -> (B, 1, frames * hop)."""
        return fitted(self.acoustic_decoder(self.fc2(latents).transpose(1, 2)), latents.shape[1] * self.hop)
